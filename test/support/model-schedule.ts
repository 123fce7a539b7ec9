import { Random } from './random.ts';
import { type AskKind, askKinds } from './model-client.ts';
import { answerKinds, type AnswerKind, type Link } from './model-upstream.ts';

/** A daemon's flags, as far as they matter to its connections. */
export interface Mode {
  readonly link: Link;
  /** Bodies are gathered before they go up. */
  readonly gathers: boolean;
  /** A connection is kept ready. */
  readonly keepsWarm: boolean;
}

/** What is sent on a connection besides answers to its requests. */
const oddities = ['HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 Early Hints\r\n\r\n', 'HTTP/1.1 200 OK\r\n', '\r\n', 'x', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'] as const;

/**
 * One step. `client` and `on` count from 0: `on` the upstream's connections, from the one that was used last. What is not possible
 * does nothing, so that a schedule stays one where steps are left out.
 */
export type Step =
  | { readonly do: 'ask'; readonly client: number; readonly kind: AskKind }
  | { readonly do: 'send rest' | 'pause' | 'resume'; readonly client: number }
  | { readonly do: 'leave'; readonly client: number; readonly how: 'FIN' | 'RST' | 'half' }
  | { readonly do: 'answer'; readonly on: number; readonly kind: AnswerKind; readonly share: number }
  | { readonly do: 'surplus'; readonly on: number; readonly kind: AnswerKind }
  | { readonly do: 'oddity'; readonly on: number; readonly bytes: string }
  | { readonly do: 'end'; readonly on: number; readonly how: 'FIN' | 'close_notify' | 'RST' }
  | { readonly do: 'hold'; readonly on: number; readonly bytes: number }
  | { readonly do: 'update key'; readonly on: number; readonly requested: boolean }
  | { readonly do: 'answer rest' | 'release' | 'stop' | 'read' | 'half ticket'; readonly on: number }
  /** The next request is read as far as its head. */
  | { readonly do: 'deafen' }
  /** Waits until nothing moves any more. */
  | { readonly do: 'settle' };

const clients = 4;

/** Most are small: how many schedules run is worth more than how much each moves. */
const smallAsks = ['tiny', 'tiny', 'chunked', 'medium', 'length in parts', 'chunks in parts'] as const satisfies readonly AskKind[];
const smallAnswers = ['length', 'length', 'limit', 'chunked', 'empty', 'last', 'interim', 'until close'] as const satisfies readonly AnswerKind[];

/** Makes the schedule with a number, of those that belong to a seed. */
export function scheduleOf(seed: number, number: number, mode: Mode): Step[] {
  const random = new Random(seed * 7_919 + number * 104_729);
  const hasRecords = mode.link === 'tls13' || mode.link === 'tunnel';
  const theme = random.fraction();
  const begin = theme < (mode.gathers ? 0.25 : 0.08) ? unread(random, mode) : theme > 0.6 && hasRecords ? betweenHalves(random) : [];
  const length = random.whole(2, begin.length === 0 ? 14 : 8);
  const steps = [...begin];
  for (let count = 0; count < length; count++) {
    steps.push(anyStep(random, hasRecords));
    if (random.chance(0.5)) steps.push({ do: 'settle' });
  }
  return steps;
}

/** A request is answered early and not read, and the next one comes. */
function unread(random: Random, { gathers }: Mode): Step[] {
  return [
    { do: 'deafen' },
    { do: 'ask', client: 0, kind: gathers ? 'large' : random.pick(['large', 'large in parts']) },
    { do: 'settle' },
    { do: 'answer', on: 0, kind: random.pick(['limit', 'length', 'chunked', 'interim']), share: 1 },
    { do: 'settle' },
    ...(random.chance(0.4) ? [{ do: 'pause', client: 1 }] as const : []),
    { do: 'ask', client: 1, kind: random.pick(['tiny', 'chunked', 'medium', 'chunks in parts']) },
    { do: 'settle' },
    ...(random.chance(0.25) ? [{ do: 'surplus', on: 0, kind: 'large until close' }, { do: 'settle' }] as const : []),
    ...(random.chance(0.25) ? [{ do: 'end', on: 0, how: 'FIN' }, { do: 'settle' }] as const : []),
    ...(random.chance(0.25) ? [{ do: 'read', on: 0 }] as const : []),
  ];
}

/** Half a ticket has come, and then a request. */
function betweenHalves(random: Random): Step[] {
  return [
    ...(random.chance(0.7) ? [{ do: 'ask', client: 0, kind: 'tiny' }, { do: 'settle' }, { do: 'answer', on: 0, kind: 'length', share: 1 }, { do: 'settle' }] as const : []),
    { do: 'half ticket', on: 0 },
    ...(random.chance(0.8) ? [{ do: 'settle' }] as const : []),
    { do: 'ask', client: 1, kind: random.pick(['tiny', 'chunked', 'chunks in parts']) },
    { do: 'settle' },
    ...(random.chance(0.6) ? [{ do: 'hold', on: 0, bytes: 0 }, { do: 'half ticket', on: 0 }] as const : []),
  ];
}

function anyStep(random: Random, hasRecords: boolean): Step {
  const client = random.whole(0, clients - 1);
  const on = random.chance(0.75) ? 0 : random.whole(1, 2);
  const chosen = random.fraction();
  if (chosen < 0.2) return { do: 'ask', client, kind: random.pick(random.chance(0.1) ? askKinds : smallAsks) };
  if (chosen < 0.38) return { do: 'answer', on, kind: random.pick(random.chance(0.1) ? answerKinds : smallAnswers), share: random.chance(0.7) ? 1 : random.fraction() };
  if (chosen < 0.48) return { do: 'surplus', on, kind: random.chance(0.1) ? 'large until close' : random.pick(['timeout', 'length', 'chunked', 'until close', 'last']) };
  if (chosen < 0.52) return { do: 'oddity', on, bytes: random.pick(oddities) };
  if (chosen < 0.6) return { do: 'end', on, how: random.pick(['FIN', 'FIN', 'close_notify', 'RST']) };
  if (chosen < 0.68) return { do: 'read', on };
  if (chosen < 0.75) return { do: random.pick(['send rest', 'pause', 'resume']), client };
  if (chosen < 0.79) return { do: 'leave', client, how: random.pick(['FIN', 'RST', 'half']) };
  if (chosen < 0.82) return { do: 'deafen' };
  if (chosen < 0.85) return { do: 'stop', on };
  if (chosen < 0.87) return { do: 'answer rest', on };
  if (chosen < 0.92 || !hasRecords) return random.chance(0.5) ? { do: 'hold', on, bytes: random.whole(0, 40) } : { do: 'release', on };
  if (chosen < 0.97) return { do: 'half ticket', on };
  return { do: 'update key', on, requested: random.chance(0.5) };
}

/** The schedule without what is not needed for `fails`, as far as leaving out one or more steps at a time shows. */
export async function reduce(steps: readonly Step[], fails: (steps: readonly Step[]) => Promise<boolean>): Promise<readonly Step[]> {
  let shortest = steps;
  for (let count = Math.ceil(steps.length / 2); count > 0; count = Math.floor(count / 2)) {
    for (let at = 0; at < shortest.length;) {
      const shorter = [...shortest.slice(0, at), ...shortest.slice(at + count)];
      if (await fails(shorter)) shortest = shorter;
      else at += count;
    }
  }
  return shortest;
}
