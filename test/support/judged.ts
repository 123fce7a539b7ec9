import { type Rules, judge } from '../../src/gate/gate.ts';
import type { RawRequest } from './raw-client.ts';

/** The port that the gate's rules speak of here. */
export const judgedPort = 8080;

const rules: Rules = { endpoint: '/v1/responses', port: judgedPort, shutdown: true, health: false, websocketFallback: false, allowedUids: undefined, token: undefined };

/**
 * What the gate makes of a request: what is done with it, or the status and the code that it is refused with. Whoever asks is
 * `uid`. Its body does not matter.
 */
export function judged(request: RawRequest, given: Partial<Rules> = {}, uid?: number): string {
  const host = 'host' in request ? request.host : `127.0.0.1:${judgedPort}`;
  const verdict = judge({
    httpVersion: (request.version ?? 'HTTP/1.1').replace('HTTP/', ''),
    method: request.method ?? 'POST',
    target: request.target ?? '/v1/responses',
    rawHeaders: [...(host === undefined ? [] : ['Host', host]), ...(request.headers ?? []).flat()],
    peerUid: uid,
  }, { ...rules, ...given });
  return typeof verdict === 'string' ? verdict : `${verdict.status} ${verdict.code}`;
}
