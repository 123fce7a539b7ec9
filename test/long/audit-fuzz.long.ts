import { join } from 'node:path';
import { expect, test } from 'vitest';
import { linesOf, verdictOn } from '../support/audit.ts';
import { startDaemon } from '../support/daemon.ts';
import { mutant } from '../support/gate-fuzz.ts';
import { policyArgs } from '../support/policy.ts';
import { Random, seed } from '../support/random.ts';
import { ask, connect } from '../support/raw-client.ts';
import { scratchFolder } from '../support/scratch.ts';
import { answer, startUpstream } from '../support/upstream.ts';

const milliseconds = 12_000;

/** Final answers' heads; those of a HEAD have no body, and other bodies do not look like one. */
const finalHead = /HTTP\/1\.1 (?!1)\d{3} [^\r]*\r\n(?:[^\r]+\r\n)*\r\n/g;

test.each([['an audit log', {}], ['a policy that reads the body', { max_body_bytes: 4_000, limits: { concurrent: 1 } }]] as const)(
  `with %s, whatever is sent: every answer has one record, and every place is free in the end, seed ${seed}`,
  async (_, policy) => {
    const file = join(scratchFolder(), 'audit.log');
    const random = new Random(seed);
    const upstream = await startUpstream({ tls: false, answer: answer(200, '{}') });
    const daemon = await startDaemon({ args: [...upstream.args, '--audit-log', file, ...('limits' in policy ? policyArgs(policy) : [])] });
    const ids: string[] = [];
    const deadline = performance.now() + milliseconds;
    while (performance.now() < deadline) {
      const bytes = mutant(random, daemon.port);
      const client = await connect(daemon.port);
      for (const piece of random.chance(0.5) ? [bytes] : random.split(bytes, 5)) await client.send(piece);
      if (random.chance(0.3)) await new Promise((resolve) => setTimeout(resolve, 10));
      client.halfClose();
      await client.waitForClose();
      client.close();
      for (const [head] of client.text.matchAll(finalHead)) {
        const found = [...head.matchAll(/^x-audit-id: (\w+)\r$/gm)].map(([, id]) => id);
        expect(found, JSON.stringify([bytes.toString('latin1'), head])).toHaveLength(1);
        ids.push(...found.filter((id) => id !== undefined));
      }
    }
    expect((await ask(daemon.port)).status).toBe(200);
    expect((await daemon.stop()).stderr).not.toContain('internal error');
    const records = linesOf(file).filter(({ kind }) => kind === 'request');
    const recorded = new Set(records.map(({ id }) => id));
    expect(recorded.size).toBe(records.length);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => !recorded.has(id))).toEqual([]);
    expect(ids.length).toBeGreaterThan(200);
    expect(records.filter(({ ended }) => ended === 'stopped')).toEqual([]);
    expect(await verdictOn(file)).toMatchObject({ ok: true, ledger: { open: new Map() } });
  },
);
