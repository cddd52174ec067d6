// Preloaded into the tools that run on node: what they ask of AWS goes to the emulator, under the host that they signed.
// The JS SDK 2 has no variable for an endpoint. Any other host is refused: a test does not leave the machine.
const http = require('http')
const https = require('https')
const to = new URL(process.env.EMULATOR)

https.request = (first, ...rest) => {
  let options = first
  let callback = rest[rest.length - 1]
  if (typeof first === 'string' || first instanceof URL) {
    options = { ...require('url').urlToHttpOptions(new URL(first)), ...(typeof rest[0] === 'object' ? rest[0] : {}) }
  }
  if (typeof callback !== 'function') callback = undefined
  const host = options.host || options.hostname
  if (!/\.amazonaws\.com$/.test(host)) throw new Error('a test does not ask ' + host)
  const headers = { ...options.headers }
  if (!Object.keys(headers).some((name) => name.toLowerCase() === 'host')) headers.Host = host
  return http.request({ method: options.method, path: options.path, headers, host: to.hostname, port: to.port }, callback)
}
https.get = (...args) => {
  const request = https.request(...args)
  request.end()
  return request
}
require('module').syncBuiltinESMExports()
