const { STSClient, GetCallerIdentityCommand } = require('@aws-sdk/client-sts')
const { fromNodeProviderChain } = require('@aws-sdk/credential-providers')
const profile = process.argv[2] || undefined
new STSClient({ region: 'eu-west-1', credentials: fromNodeProviderChain({ profile }) })
  .send(new GetCallerIdentityCommand({}))
  .then((data) => console.log(data.Arn))
  .catch((err) => {
    console.error(String(err))
    process.exit(1)
  })
