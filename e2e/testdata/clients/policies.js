// Evaluates requests by policies: reads an array of requests from stdin, and prints an array of results.
const { runSimulation } = require('@cloud-copilot/iam-simulate')
const fs = require('fs')
const named = (policies) => policies.map((policy, i) => ({ name: `p${i}`, policy }))
const evaluate = async (r) => {
  const result = await runSimulation({
    request: {
      principal: r.principal,
      action: r.action,
      resource: { resource: r.resource, accountId: r.account },
      contextVariables: r.context
    },
    identityPolicies: named(r.policies),
    resourcePolicy: r.trust,
    serviceControlPolicies: [],
    resourceControlPolicies: []
  }, {})
  return result.overallResult || JSON.stringify(result)
}
Promise.all(JSON.parse(fs.readFileSync(0)).map(evaluate)).then((all) => console.log(JSON.stringify(all)))
