// Runs calls of the plivo package: node ask.js ADDRESS AUTH_ID AUTH_TOKEN '[["list", [{"limit": 5}]], ...]'
// and prints for each what came of it: {"value": ...} or {"error": ...}.
'use strict';

const [address, authId, authToken, asked] = process.argv.slice(2);
require('./on_this_server.js')(address);
const plivo = require('plivo');
const exceptions = require('plivo/dist/utils/exceptions.js');

const plain = (value) => {
  if (Array.isArray(value)) {
    return { items: value.map(plain), meta: value.meta };
  }
  // The classes keep their client in a symbol and their fields as properties.
  return { ...value };
};

const classesOf = (error) =>
  Object.keys(exceptions).filter((name) => typeof exceptions[name] === 'function' && error instanceof exceptions[name]);

(async () => {
  const client = new plivo.Client(authId, authToken);
  const results = [];
  for (const [method, parameters] of JSON.parse(asked)) {
    try {
      results.push({ value: plain(await client.calls[method](...parameters)) });
    } catch (error) {
      const { name, status, message, apiID } = error;
      results.push({ error: { isError: error instanceof Error, classes: classesOf(error), name, status, message, apiID } });
    }
  }
  // It keeps connections open, which would keep the process.
  process.stdout.write(JSON.stringify(results), () => process.exit(0));
})();
