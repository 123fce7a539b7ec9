import type { Denial } from '../../proxy/problem.ts';
import { type BodyFacts, factsOf, noFacts } from './body-facts.ts';
import type { Objection } from './findings.ts';
import type { Policy } from './policy.ts';
import { readJsonObject } from './strict-json.ts';

export interface BodyVerdict {
  /** One for each rule. The first is told to the client; the others are recorded in shadow mode. */
  readonly refusals: readonly Denial[];
  readonly facts: BodyFacts;
}

/**
 * Decides by a request's head whether its body is worth reading.
 *
 * @param rawHeaders names and values in turn, as received
 * @returns the refusals, in the order of the fields; none where the body is to be read
 */
export function judgeHeaders(policy: Policy, rawHeaders: readonly string[]): Denial[] {
  const refusals: Denial[] = [];
  let types = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const value = rawHeaders[i + 1] ?? '';
    const name = rawHeaders[i]?.toLowerCase() ?? '';
    // A server that hands headers on as variables takes `_` for `-` (RFC 3875 section 4.1.18).
    switch (name.includes('_') ? name.replaceAll('_', '-') : name) {
      case 'openai-organization':
      case 'openai-project':
        if (!policy.grantedHeaders.includes(name.replaceAll('_', '-'))) refusals.push(accountHeader(rawHeaders[i] ?? ''));
        break;
      case 'content-length':
        if (policy.readsBody && Number(value) > policy.maxBodyBytes) refusals.push(tooLarge(policy));
        break;
      case 'content-encoding':
        if (policy.fields !== undefined && !isIdentity(value)) refusals.push(unsupported('The body must be uncompressed, without a Content-Encoding. For Codex: -c features.enable_request_compression=false, or a provider that is not named OpenAI.'));
        break;
      case 'content-type':
        if (policy.fields !== undefined && (++types > 1 || !isJson(value))) {
          refusals.push(unsupported('The Content-Type must be application/json, in UTF-8, once.'));
        }
        break;
    }
  }
  return refusals;
}

/** Decides on a complete body. The verdict holds for exactly these bytes: they are what must go upstream. */
export function judgeBody(policy: Policy, body: Buffer): BodyVerdict {
  if (body.length > policy.maxBodyBytes) return { refusals: [tooLarge(policy)], facts: noFacts };
  if (policy.fields === undefined) return { refusals: [], facts: noFacts };
  const reading = readJsonObject(body);
  if (reading.kind === 'invalid') {
    return { refusals: [refused({ code: 'invalid_body', rule: 'body', message: `The policy needs an unambiguous JSON body: this one ${reading.why}.` })], facts: noFacts };
  }
  return { refusals: policy.fields.judge(reading.object).map(denied), facts: factsOf(reading.object) };
}

/** The refusal of a body that grew beyond the policy's limit while it was read. */
export function tooLarge({ maxBodyBytes }: Policy): Denial {
  return refused({ code: 'body_too_large', rule: 'max_body_bytes', message: `A body may have at most ${maxBodyBytes} bytes (policy: max_body_bytes).` });
}

function denied({ rule, why, place }: Objection): Denial {
  return refused({ code: 'policy_denied', rule, message: `The policy (${rule}) does not allow ${why}, at ${place}.` });
}

function accountHeader(name: string): Denial {
  const message = `The policy (account_headers) does not allow ${name}, which chooses who is billed. Leave it out: SDKs take it from OPENAI_ORG_ID or OPENAI_PROJECT_ID, Codex from OPENAI_ORGANIZATION or OPENAI_PROJECT.`;
  return refused({ code: 'policy_denied', rule: 'account_headers', message });
}

function unsupported(message: string): Denial {
  return refused({ code: 'unsupported_encoding', rule: 'encoding', message });
}

/**
 * A request that the policy does not allow. In shadow mode it is served all the same, and recorded.
 *
 * The status is 400 for every rule: a retry cannot succeed, and the Codex CLI retries all others of the 4xx statuses (403,
 * 413 and 415 five times each, for 7 s) before it shows the message. The code tells the rules apart.
 */
function refused(why: Pick<Denial, 'code' | 'rule' | 'message'>): Denial {
  return { status: 400, isFinal: true, ...why };
}

function isIdentity(contentEncoding: string): boolean {
  return contentEncoding.split(',').every((coding) => ['', 'identity'].includes(coding.trim().toLowerCase()));
}

/** In another type or charset, the upstream could read the same bytes differently. */
function isJson(contentType: string): boolean {
  return /^\s*application\/json\s*(;\s*(charset=("?)utf-8\3\s*)?)?$/i.test(contentType);
}
