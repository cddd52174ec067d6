const AWS = require('aws-sdk')
new AWS.STS({ region: 'eu-west-1' }).getCallerIdentity({}, (err, data) => {
  if (err) {
    console.error(String(err))
    process.exit(1)
  }
  console.log(data.Arn)
})
