exports.hello = async () => 'hello'
