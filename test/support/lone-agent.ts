/** What the agent prints: the model answers, and nothing else can be reached. */
export const toldAlone = '200 completed\nECONNREFUSED\nENETUNREACH\nENETUNREACH\n';

/**
 * A program for a place without a network. It asks the model as soon as something listens there, then what else there is, and prints what
 * it is told.
 *
 * @param port where it has the model
 * @param elsewhere a port on which something listens, outside
 */
export function loneAgent(port: number, elsewhere: number): string {
  return `#!/usr/bin/env node
const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"model":"gpt-5","input":"Say hello"}' };
const told = (url) => fetch(url, request).then(async (answer) => answer.status + ' ' + (await answer.json()).status, ({ cause }) => cause.code);
let model;
do model = await told('http://127.0.0.1:${port}/v1/responses'); while (model === 'ECONNREFUSED');
const others = ['http://127.0.0.1:${elsewhere}/', 'http://192.0.2.1/', 'http://[2001:db8::1]/'];
console.log([model, ...await Promise.all(others.map(told))].join('\\n'));
`;
}
