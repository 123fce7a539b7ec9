import type { Usage } from '../usage/usage.ts';
import type { Admission } from './audit-ledger.ts';

/** Longest model name, upstream request id and rule in a record, in characters. */
const maxTextLength = 128;

/** Most rules in a record. There are fewer; a line must not outgrow `maxLineBytes`, even by a mistake of a caller. */
const maxRules = 16;

const idPattern = /^[0-9a-f-]{1,36}$/;

const rulePattern = /^[a-z][a-z0-9_.]*$/;

/** A service tier, or a mode: what a client may have made up is left out. */
const namePattern = /^[a-z][a-z0-9_.-]{0,31}$/;

/** Longest target in a record, in characters. */
const maxTargetLength = 128;

/** What was decided on a request; `would_refuse` is what a policy in shadow mode lets pass. */
export type Decision = 'allowed' | 'refused' | 'would_refuse';

/**
 * How an exchange ended: `complete` when all of the answer went to the client's connection; `client_left` before that;
 * `upstream_cut` when the answer broke off; `upstream_failed` when there was none; `refused` here; `stopped` with the daemon.
 */
export type Ending = 'complete' | 'client_left' | 'upstream_cut' | 'upstream_failed' | 'refused' | 'stopped';

/** One request, as the audit log tells of it. Undefined is what is not known; it is left out. */
export interface AuditRecord {
  /** When it ended, in milliseconds since the epoch. */
  readonly time: number;
  readonly id: string;
  readonly uid?: number | undefined;
  /** As received, like the target. Undefined where the request could not be parsed. */
  readonly method?: string | undefined;
  readonly target?: string | undefined;
  readonly decision: Decision;
  /** Which rule refused it, or would have: an error code of the gate's, or the name of a policy's rule. */
  readonly rule?: string | undefined;
  /** In shadow mode, all that would have refused it, `rule` first. */
  readonly rules?: readonly string[] | undefined;
  readonly model?: string | undefined;
  /** What the request asks for; the answer may have had another. */
  readonly serviceTier?: string | undefined;
  readonly reasoningMode?: string | undefined;
  readonly stream?: boolean | undefined;
  /** The status that the client was answered with. */
  readonly status?: number | undefined;
  /** Bytes of the bodies, as far as they came. */
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** From the request's head to the answer's, and to the answer's end, in milliseconds. */
  readonly headMs?: number | undefined;
  readonly totalMs: number;
  readonly ended: Ending;
  readonly upstreamRequestId?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly usage?: Usage | undefined;
  /** In tokens: what a budget counts. Undefined where it was not admitted. */
  readonly charged?: number | undefined;
  /** The content coding that kept an answer from being read, so that there is no usage. */
  readonly unreadEncoding?: string | undefined;
}

/**
 * A record as JSON, in printable ASCII. This is the closed set: nothing else of an exchange is ever written, and every
 * text is checked here, wherever the record comes from.
 *
 * @param endpoint the target that is served, which is written as it is; see `targetOf` for the others
 */
export function recordText(record: AuditRecord, endpoint: string): string {
  return JSON.stringify({
    kind: 'request',
    time: new Date(record.time).toISOString(),
    id: matching(record.id, idPattern),
    uid: count(record.uid),
    method: matching(record.method, /^[A-Z-]{1,20}$/),
    target: record.target === undefined ? undefined : targetOf(record.target, endpoint),
    decision: record.decision,
    rule: matching(record.rule, rulePattern),
    rules: record.rules?.slice(0, maxRules).map((rule) => matching(rule, rulePattern) ?? '-'),
    model: record.model === undefined ? undefined : printable(record.model),
    service_tier: matching(record.serviceTier, namePattern),
    reasoning_mode: matching(record.reasoningMode, namePattern),
    stream: record.stream,
    status: count(record.status),
    bytes_up: count(record.bytesUp),
    bytes_down: count(record.bytesDown),
    head_ms: milliseconds(record.headMs),
    total_ms: milliseconds(record.totalMs),
    ended: record.ended,
    upstream_request_id: matching(record.upstreamRequestId, /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/),
    traceparent: record.traceparent === undefined ? undefined : traceparentOf(record.traceparent),
    usage: record.usage === undefined ? undefined : usageText(record.usage),
    charged: count(record.charged),
    unread_encoding: matching(record.unreadEncoding, /^[a-z0-9_.+-]+(, ?[a-z0-9_.+-]+)*$/),
  });
}

/** What stands in the log before a byte of a request goes up. @param isCarried it stands in an earlier file, too */
export function admittedText(admission: Admission, isCarried: boolean): string {
  const time = new Date(admission.time).toISOString();
  return JSON.stringify({ kind: 'admitted', time, ...whose(admission), estimate: count(admission.estimate), carried: isCarried || undefined });
}

/** The record of a request whose daemon was killed. */
export function unknownEndText(admission: Admission, time: number): string {
  return JSON.stringify({ kind: 'request', time: new Date(time).toISOString(), ...whose(admission), decision: 'allowed', ended: 'unknown', charged: count(admission.estimate) });
}

function whose({ id, uid, model, serviceTier, reasoningMode }: Admission): Readonly<Record<string, string | number | undefined>> {
  return { id: matching(id, idPattern), uid: count(uid), model: matching(model, /^[\x20-\x7e]+$/), service_tier: matching(serviceTier, namePattern), reasoning_mode: matching(reasoningMode, namePattern) };
}

/**
 * A request target, fit to be kept. A refused one can hold anything, also a key: `GET /v1/models?key=sk-...`. So only the
 * endpoint is written as it is. Of others the path's plain words stay, which is how routes are named (`/v1/chat/completions`);
 * what has a digit, a capital or a percent sign in it could be an id or a secret and becomes `*`, and so does a query.
 */
export function targetOf(target: string, endpoint: string): string {
  if (target === endpoint) return target;
  if (!target.startsWith('/')) return '*';
  const [path = '', ...query] = target.split(/[?#]/, 2);
  const words = path.split('/').map((word) => (/^([a-z_.-]{0,32}|v\d{1,2})$/.test(word) ? word : '*'));
  return cut(`${words.join('/')}${query.length > 0 ? '?*' : ''}`, maxTargetLength);
}

/** A traceparent by W3C Trace Context (section 3.2); undefined if it is none. */
export function traceparentOf(value: string): string | undefined {
  const [match, version] = /^(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?=$|-)/.exec(value) ?? [];
  // Later versions may add to it; what they add is not ours to keep.
  return version === '00' && match !== value ? undefined : match;
}

/** Text that a client or an upstream chose: cut, and everything but printable ASCII escaped, so that it is harmless wherever it is shown. */
export function printable(text: string): string {
  const escaped = text.slice(0, maxTextLength + 1).replace(/[^\x20-\x7e]|\\/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return cut(escaped, maxTextLength);
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 3)}...` : text;
}

function matching(text: string | undefined, form: RegExp): string | undefined {
  return text !== undefined && text.length <= maxTextLength && form.test(text) ? text : undefined;
}

function count(value: number | undefined): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? value : undefined;
}

function milliseconds(value: number | undefined): number | undefined {
  return Number.isFinite(value) ? Math.round((value as number) * 10) / 10 : undefined;
}

function usageText({ input, cached, output, reasoning, total }: Usage): Record<keyof Usage, number | undefined> {
  return { input: count(input), cached: count(cached), output: count(output), reasoning: count(reasoning), total: count(total) };
}
