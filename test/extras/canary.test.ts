import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { linesOf } from '../support/audit.ts';
import { randomKey } from '../support/daemon.ts';
import { chunk } from '../support/http-bytes.ts';
import { policyArgs } from '../support/policy.ts';
import { startBoth, uploadHead } from '../support/proxied.ts';
import { connect, exchange } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, streamHead } from '../support/upstream.ts';

const canary = 'C4nary-5ecret_of.a~prompt';
const token = 'T0ken-of/the+daemon=';

/** A text in the forms in which it could have got somewhere. Of base64, what does not depend on where it begins. */
function formsOf(text: string): string[] {
  const bytes = Buffer.from(text);
  const base64 = [0, 1, 2].map((offset) => Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64').slice(offset === 0 ? 0 : 4, -4));
  return [
    text,
    ...['hex', 'utf16le'].map((encoding) => bytes.toString(encoding as BufferEncoding)),
    bytes.toString('hex').toUpperCase(),
    [...text].join('\0'),
    [...text].reverse().join(''),
    ...base64,
    ...base64.map((form) => form.replaceAll('+', '-').replaceAll('/', '_')),
    encodeURIComponent(text),
    [...text].map((char) => `%${char.charCodeAt(0).toString(16)}`).join(''),
    [...text].map((char) => `\\u00${char.charCodeAt(0).toString(16)}`).join(''),
  ];
}

/** A body with the canary in the place of everything that may be anything. */
const members = ['input', 'instructions', 'user', 'safety_identifier', 'prompt_cache_key', 'service_tier', 'metadata', 'x'].map((name) => `"${name}":{"${canary}":["${canary}",{"model":"${canary}","stream":"${canary}"}]}`).join(',');
const body = `{"model":"gpt-5","stream":false,"${canary}":"${canary}",${members},"tools":[{"type":"${canary}"}]}`;

test('nothing of a request or an answer is in the audit log or on stderr beside what belongs there, in no encoding; nor are the key and the token', async () => {
  const folder = scratchFolder();
  const [file, tokenFile] = [join(folder, 'audit.log'), join(folder, 'token')];
  writeFileSync(tokenFile, token, { mode: 0o600 });
  const key = randomKey();
  const { daemon, upstream } = await startBoth({ args: ['--audit-log', file, '--client-token-file', tokenFile, ...policyArgs({ background: false, max_body_bytes: 10_000, fields: ['x', canary] })], daemon: { key } });
  const { port } = daemon;
  const bearer = `Authorization: Bearer ${token}`;
  const host = `Host: 127.0.0.1:${port}`;
  const post = (lines: string, sent: string): string => `${uploadHead(port, `${bearer}\r\n${lines}`)}${sent}`;
  const posted = (lines: string, sent = body): string => post(`${lines}\r\nContent-Length: ${sent.length}`, sent);
  const names = ['X-Api-Key', 'Cookie', 'User-Agent', 'Session-Id', 'X-Request-Id', 'X-Client-Request-Id', 'Originator', 'Tracestate', 'Traceparent', 'X-Audit-Id', 'Accept', 'TE', 'Via', canary];

  const questions = [
    posted(names.map((name) => `${name}: ${canary}`).join('\r\n')),
    posted(`Connection: ${canary}`),
    posted(`Content-Encoding: ${canary}`),
    posted(`Content-Type: application/json; charset=${canary}`),
    posted('X: y', body.slice(0, -1)),
    posted('X: y', body.replace('{', `{"${canary}":1,`)),
    posted('X: y', body.replace('{', `{"background":"${canary}",`)),
    posted('X: y', body + canary.repeat(500)),
    posted(`Expect: ${canary}`),
    posted(`Transfer-Encoding: ${canary}`),
    post(`Content-Length: ${canary}`, body),
    post('Transfer-Encoding: chunked', `${body.length.toString(16)};${canary}="${canary}"\r\n${body}\r\n0\r\n${canary}: ${canary}\r\n\r\n`),
    post('Transfer-Encoding: chunked', `${chunk(body).toString()}${canary}\r\n`),
    `${uploadHead(port, `Authorization: Bearer ${canary}`)}`,
    `${uploadHead(port, `Authorization: ${canary} ${token}`)}`,
    `GET /v1/models?${canary}=${token} HTTP/1.1\r\n${host}\r\n\r\n`,
    `GET /v1/models#${canary} HTTP/1.1\r\n${host}\r\n\r\n`,
    `GET /v1/models HTTP/1.1\r\nHost: ${canary}\r\n\r\n`,
    `GET /v1/models HTTP/1.1\r\n${host}\r\nOrigin: ${canary}\r\n\r\n`,
    `${canary} /v1/models HTTP/1.1\r\n${host}\r\n\r\n`,
    `GET /v1/models HTTP/${canary}\r\n${host}\r\n\r\n`,
    canary,
  ];
  const events = `event: ${canary}\nid: ${canary}\nretry: ${canary}\n:${canary}\n${canary}: ${canary}\ndata: {"${canary}":"${canary}"}\n\nevent: response.completed\ndata: {"response":{"model":"gpt-5","output":"${canary}","usage":{"input_tokens":1,"${canary}":2}}}\n\n`;
  const fields = ['openai-organization', 'x-request-id', 'set-cookie', 'location', 'retry-after', canary].map((name) => [name, `${canary} ${key}`] as const);
  const answers = [
    answer(200, `{"echo":${body},"key":"${key}","usage":{"input_tokens":1,"${canary}":1}}`, [['content-type', 'application/json'], ...fields]),
    answer(400, `{"error":{"message":"${canary}: ${key}"}}`),
    `HTTP/1.1 418 ${canary}\r\ncontent-type: text/${canary}\r\ncontent-length: 0\r\n\r\n`,
    `${streamHead(200, [['content-type', 'text/event-stream'], ...fields])}${events.length.toString(16)};${canary}\r\n${events}\r\n0\r\n${canary}: ${canary}\r\n\r\n`,
    `HTTP/1.1 103 ${canary}\r\nlink: ${canary}\r\n\r\n${answer(200).toString()}`,
    `HTTP/1.1 200 OK\r\ntransfer-encoding: ${canary}\r\n\r\n`,
    `${streamHead()}${canary}`,
    `${canary}\r\n\r\n`,
  ];
  upstream.answerWith(answer(200, '{}'));
  for (const raw of questions) {
    const client = await connect(port);
    await client.send(raw);
    if (raw === canary) client.halfClose();
    await client.response();
    client.close();
  }
  const before = upstream.requests.length;
  for (const raw of answers) {
    upstream.answerWith(raw);
    await exchange(port, posted('X: y'));
  }
  const { stderr } = await daemon.stop();

  expect(before).toBe(3);
  expect(upstream.requests).toHaveLength(before + answers.length);
  expect(linesOf(file).filter(({ kind }) => kind === 'request')).toHaveLength(questions.length + answers.length);
  for (const text of [readFileSync(file, 'latin1'), stderr]) {
    for (const secret of [canary, token, key]) for (const form of formsOf(secret)) expect(text).not.toContain(form);
  }
});
