// Writes records to an audit log, one after the other, until it is killed: audit-writer-process.mjs FILE
// With COUNT, so many; then it says how the log is doing, as JSON.
import { AuditLog } from '../../dist/extras/audit/audit-log.js';

const [file, count] = process.argv.slice(2);
process.on('SIGXFSZ', () => {}); // a limit on file sizes is an error like a full disk, not the end
const said = [];
const log = new AuditLog({ file, endpoint: '/v1/responses', owner: undefined, lock: undefined, report: (message) => said.push(message) });
process.stdout.write('ready\n');
for (let written = 0; count === undefined || written < Number(count); written++) {
  log.append({ time: Date.now(), id: written.toString(16).padStart(16, '0'), decision: 'allowed', bytesUp: 1, bytesDown: 2, totalMs: 3, ended: 'complete', model: 'm'.repeat(written % 128) });
}
process.stdout.write(`${JSON.stringify({ healthy: log.healthy, missing: log.missing, said })}\n`);
