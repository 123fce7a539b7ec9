// The daemon beside nginx, HAProxy and `codex responses-api-proxy`: the same work for each, in one run, against one
// upstream. A wrong answer is an error. Ratios inside one run are what counts; machines differ and are noisy.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { chart } from './bench/chart.ts';
import type { Column } from './bench/figures.ts';
import { findPeer, versionOf } from './bench/peers.ts';
import type { MissingPeer, Peer, PeerName } from './bench/peers.ts';
import { columnNames, goals, markdown, summary } from './bench/report.ts';
import type { Circumstances } from './bench/report.ts';
import { Run } from './bench/run.ts';
import type { Plan } from './bench/run.ts';
import { runProgram } from './program.ts';
import { makeTemporaryFolder } from './temporary-folder.ts';

const usage = `Usage: npm run bench -- [--quick] [--only NAMES] [--publish] [--json FILE] [--codex-folder FOLDER]

Measures the daemon and its peers side by side, in about six minutes. Needs wrk and a C compiler, and
who is to be measured (Debian: apt-get install wrk gcc libc6-dev nginx haproxy).

  --quick                about a minute, fewer measures and fewer runs of each
  --only NAMES           of daemon, nginx, haproxy, codex and relay, which is the least that node:http and undici
                         cost together (default: daemon,nginx,haproxy,codex; the relay wherever the daemon is)
  --publish              runs three times and writes the medians into scripts/bench: chart.svg, results.md, README.md.
                         Ends without a result where the machine is busy before any of the three
  --json FILE            writes every figure of every run to FILE
  --codex-folder FOLDER  where Codex (400 MB) is kept from one run to the next (default: node_modules/.cache/bench)
`;

const peerNames: readonly PeerName[] = ['daemon', 'nginx', 'haproxy', 'codex', 'relay'];
const defaultPeers: readonly PeerName[] = ['daemon', 'nginx', 'haproxy', 'codex'];
const kilobyte = 1024;

/** What `--publish` writes stands between these lines of scripts/bench/README.md. */
const [readmeBegin, readmeEnd] = ['<!-- bench: written by npm run bench -- --publish -->', '<!-- end of bench -->'];

/** How many whole runs are published as their medians, and the load average from which on the machine is too busy for one. */
const publishedRuns = 3;
const quietLoad = 0.3;
/** Until the load average has forgotten the run before. */
const settleMs = 300_000;
const overallTimeoutMs = publishedRuns * 900_000;
const needed = [['wrk', '-v', /^wrk (\S+)/], ['cc', '--version', /(\d+\.\d+)/]] as const;

const fullPlan: Plan = {
  firstBytes: [{ roundTripMs: 50, rounds: 3 }, { roundTripMs: 1, rounds: 5 }],
  proxiedFirstBytes: [{ roundTripMs: 50, rounds: 3 }],
  coldRounds: 5,
  requests: [
    { connections: 1, bodyBytes: kilobyte, rounds: 3 },
    { connections: 16, bodyBytes: kilobyte, rounds: 3 },
    { connections: 64, bodyBytes: kilobyte, rounds: 1 },
    { connections: 1, bodyBytes: 55 * kilobyte, rounds: 1 },
    { connections: 16, bodyBytes: 55 * kilobyte, rounds: 2 },
    { connections: 64, bodyBytes: 55 * kilobyte, rounds: 1 },
  ],
  streams: [
    { streams: 100, events: 50, rounds: 1 },
    { streams: 500, events: 50, rounds: 2 },
    { streams: 1000, events: 50, rounds: 1 },
  ],
  starts: 7,
  auditRounds: 5,
  patienceMs: 10_000,
};
const quickPlan: Plan = {
  firstBytes: [{ roundTripMs: 50, rounds: 1 }],
  proxiedFirstBytes: [{ roundTripMs: 50, rounds: 1 }],
  coldRounds: 2,
  requests: [{ connections: 1, bodyBytes: kilobyte, rounds: 1 }, { connections: 16, bodyBytes: kilobyte, rounds: 1 }],
  streams: [{ streams: 100, events: 50, rounds: 1 }, { streams: 500, events: 25, rounds: 1 }],
  starts: 3,
  auditRounds: 2,
  patienceMs: 10_000,
};


async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      'quick': { type: 'boolean', default: false },
      'only': { type: 'string' },
      'publish': { type: 'boolean', default: false },
      'json': { type: 'string' },
      'codex-folder': { type: 'string', default: beside('../node_modules/.cache/bench') },
      'help': { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const names = values.only === undefined ? defaultPeers : values.only.split(',').map(peerName);
  for (const [program, flag, form] of needed) {
    if (versionOf(program, [flag], form) === undefined) throw new Error(`${program} is missing (Debian: apt-get install wrk gcc libc6-dev)`);
  }
  const found = await Promise.all(names.map((name) => findPeer(name, resolve(values['codex-folder']))));
  const peers = found.filter((peer): peer is Peer => 'start' in peer);
  const missing = found.filter((peer): peer is MissingPeer => 'reason' in peer);
  for (const { name, reason } of missing) console.log(`skipped: ${columnNames[name]}: ${reason}`);

  if (values.publish && (values.quick || values.only !== undefined)) throw new Error('--publish takes a whole run, without --quick and --only');
  const startedAt = performance.now();
  const run = new Run(values.quick ? quickPlan : fullPlan, peers, makeTemporaryFolder('responses-api-proxy-bench-').path);
  let load = 0;
  for (let runs = 0; runs < (values.publish ? publishedRuns : 1); runs += 1) {
    if (runs > 0) await sleep(settleMs);
    load = Math.max(load, loadavg()[0] ?? 0);
    if (values.publish && load >= quietLoad) throw new Error(`--publish: the machine is busy, with a load average of ${load.toFixed(2)}: nothing is published`);
    await run.measure();
  }

  const circumstances: Circumstances = {
    date: new Date().toISOString().slice(0, 10), cpu: cpus()[0]?.model.trim() ?? 'unknown processor', cores: cpus().length,
    kernel: /^[\d.]+/.exec(release())?.[0] ?? '', node: process.versions.node,
    versions: Object.fromEntries(peers.map(({ name, version }) => [name, version])), missing,
    load, disturbed: run.patience.disturbed, runs: run.patience.runs,
  };
  const shown = peers.map(({ name }) => name).filter((name) => name !== 'relay');
  const columns: Column[] = [...shown, 'relay', 'direct'];
  const text = markdown(run.figures, columns, circumstances);
  console.log(`\n${text}\n${goals(run.figures)}`);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ ...circumstances, figures: run.figures }, null, 1)}\n`);
  console.log(`${Math.round((performance.now() - startedAt) / 1000)} s`);
  for (const wrong of run.wrong) console.log(`WRONG ${wrong}`);
  if (run.wrong.length > 0) return 1;
  if (values.publish) {
    const { date, cpu, cores, versions } = circumstances;
    const foot = `${date}, ${cpu}, ${cores} cores; ${Object.entries(versions).map(([name, version]) => `${columnNames[name as PeerName]} ${version}`).join(', ')}`;
    writeFileSync(beside('bench/results.md'), text);
    writeFileSync(beside('bench/chart.svg'), chart(run.figures, columns.filter((column) => column !== 'relay'), foot));
    writeReadme(summary(run.figures, columns, circumstances));
  }
  return 0;
}

function writeReadme(text: string): void {
  const file = beside('bench/README.md');
  const readme = readFileSync(file, 'utf8');
  const [begin, end] = [readme.indexOf(readmeBegin), readme.indexOf(readmeEnd)];
  if (begin === -1 || end < begin) throw new Error(`${file} has no lines ${readmeBegin} and ${readmeEnd}`);
  writeFileSync(file, `${readme.slice(0, begin)}${readmeBegin}\n${text}${readme.slice(end)}`);
}

function peerName(text: string): PeerName {
  const name = peerNames.find((one) => one === text);
  if (name === undefined) throw new Error(`--only takes ${peerNames.join(', ')}, not ${text}`);
  return name;
}

function beside(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

runProgram('bench', overallTimeoutMs, main);
