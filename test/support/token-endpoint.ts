import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { identity } from './certificates.ts';
import { cleanUp } from './cleanup.ts';
import { Changing } from './wait.ts';

/** How it answers an exchange: as the contract says, or otherwise. */
export type TokenAnswer = 'issue' | { readonly status: number; readonly body: string } | 'hang up' | { readonly afterMs: number };

/** A stand-in for GitHub's token service (`GET /github`) and OpenAI's (`POST /oauth/token`), on one port of localhost. */
export interface TokenEndpoint {
  readonly origin: string;
  /** What GitHub would put into a job's environment. */
  readonly githubEnv: Readonly<Record<string, string>>;
  readonly githubToken: string;
  /** The subject tokens that are valid. GitHub's are added as they are issued. */
  readonly subjects: Set<string>;
  /** Each exchange's body, as it was parsed. */
  readonly exchanges: ReadonlyArray<Readonly<Record<string, string>>>;
  readonly issued: readonly string[];
  /** Whether it has issued a token that has not expired. */
  isValid(token: string): boolean;
  /** How the next exchanges are answered, in this order; then with tokens. */
  plan(...answers: readonly TokenAnswer[]): void;
  until(condition: () => boolean, what: string, timeoutMs?: number): Promise<void>;
}

export async function startTokenEndpoint(lifetimeSeconds: number): Promise<TokenEndpoint> {
  const changing = new Changing();
  const githubToken = `github.${randomBytes(24).toString('base64url')}`;
  const subjects = new Set<string>();
  const exchanges: Array<Record<string, string>> = [];
  const expiries = new Map<string, number>();
  const planned: TokenAnswer[] = [];
  const jwt = (): string => [9, 90, 60].map((bytes) => randomBytes(bytes).toString('base64url')).join('.');

  const reply = (res: ServerResponse, status: number, body: object): void => {
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  const github = (req: IncomingMessage, res: ServerResponse): void => {
    if (req.headers.authorization !== `Bearer ${githubToken}`) return reply(res, 401, { message: 'no' });
    if (new URL(req.url ?? '', 'https://x').searchParams.get('audience') !== 'https://api.openai.com/v1?a=b') return reply(res, 400, { message: 'audience' });
    const subject = jwt();
    subjects.add(subject);
    return reply(res, 200, { value: subject, count: 1 });
  };
  const exchange = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    let text = '';
    for await (const piece of req) text += String(piece);
    const body = JSON.parse(text) as Record<string, string>;
    exchanges.push(body);
    const answer = planned.shift() ?? 'issue';
    try {
      if (answer === 'hang up') return void req.socket.destroy();
      if (typeof answer === 'object' && 'status' in answer) return void res.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body);
      if (typeof answer === 'object') await pause(answer.afterMs);
      if (body['grant_type'] !== 'urn:ietf:params:oauth:grant-type:token-exchange' || body['subject_token_type'] !== 'urn:ietf:params:oauth:token-type:jwt' || body['identity_provider_id'] !== 'idp_1' || body['service_account_id'] !== 'sa_1') {
        return reply(res, 400, { error: 'invalid_request' });
      }
      if (!subjects.has(body['subject_token'] ?? '')) return reply(res, 401, { error: { code: 'invalid_subject_token', message: `not valid: ${body['subject_token']}` } });
      const token = jwt();
      const expiresAt = Date.now() + lifetimeSeconds * 1000;
      expiries.set(token, expiresAt);
      return reply(res, 200, {
        access_token: token,
        issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        token_type: 'Bearer',
        expires_in: lifetimeSeconds,
        expires_at: Math.floor(expiresAt / 1000),
      });
    } finally {
      changing.changed();
    }
  };
  const { cert, key } = identity('good');
  const server = https.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (req, res) => {
    if (req.method === 'GET' && req.url?.startsWith('/github?') === true) return github(req, res);
    if (req.method === 'POST' && req.url === '/oauth/token' && req.headers['content-type'] === 'application/json') return void exchange(req, res);
    return reply(res, 404, { error: 'not_found' });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const origin = `https://localhost:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    githubEnv: { ACTIONS_ID_TOKEN_REQUEST_URL: `${origin}/github?api-version=2.0`, ACTIONS_ID_TOKEN_REQUEST_TOKEN: githubToken },
    githubToken,
    subjects,
    exchanges,
    get issued() {
      return [...expiries.keys()];
    },
    isValid: (token) => (expiries.get(token) ?? 0) > Date.now(),
    plan: (...answers) => void planned.push(...answers),
    until: (condition, what, timeoutMs) => changing.when(() => (condition() ? true : undefined), () => what, timeoutMs).then(() => {}),
  };
}
