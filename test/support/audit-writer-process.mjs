// Writes records to an audit log, one after the other, until it is killed: audit-writer-process.mjs FILE
import { AuditLog } from '../../dist/extras/audit/audit-log.js';

const [file] = process.argv.slice(2);
const log = new AuditLog({ file, endpoint: '/v1/responses', owner: undefined, lock: () => true, report: () => {} });
process.stdout.write('ready\n');
for (let written = 0; ; written++) {
  log.append({ time: Date.now(), id: written.toString(16).padStart(16, '0'), decision: 'allowed', bytesUp: 1, bytesDown: 2, totalMs: 3, ended: 'complete', model: 'm'.repeat(written % 128) });
}
