import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { makeTemporaryFolder } from './temporary-folder.ts';

/** A server's certificate and key, and where the CA that vouches for them lies. */
export interface Certificates {
  readonly caFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Removes the folder of the CA file; may be called twice. */
  remove(): void;
}

const validDays = 2;

// Our own configuration, so that the machine's openssl.cnf neither has to exist nor can interfere.
const configuration = `
[req]
distinguished_name = subject
prompt = no
[subject]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
authorityKeyIdentifier = keyid
`;

/**
 * Makes a throwaway CA and a certificate for localhost and 127.0.0.1 with the `openssl` command.
 * Only the public CA certificate stays on disk, readable by every user, until `remove` or the end of the process.
 */
export function makeCertificates(): Certificates {
  const { path: folder, remove } = makeTemporaryFolder('stand-in-ca-');
  try {
    writeFileSync(join(folder, 'openssl.cnf'), configuration);
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-config', 'openssl.cnf'];
    openssl(folder, ['req', '-x509', ...newKey, '-extensions', 'ca', '-subj', '/CN=Stand-in CA',
      '-days', String(validDays), '-keyout', 'ca.key', '-out', 'ca.pem']);
    openssl(folder, ['req', '-new', ...newKey, '-subj', '/CN=localhost', '-keyout', 'leaf.key', '-out', 'leaf.csr']);
    openssl(folder, ['x509', '-req', '-in', 'leaf.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', '2',
      '-days', String(validDays), '-extfile', 'openssl.cnf', '-extensions', 'leaf', '-out', 'leaf.pem']);
    const cert = readFileSync(join(folder, 'leaf.pem'));
    const key = readFileSync(join(folder, 'leaf.key'));
    for (const name of ['openssl.cnf', 'ca.key', 'leaf.key', 'leaf.csr', 'leaf.pem']) rmSync(join(folder, name));
    // A daemon that runs as another user must be able to read the CA; no secret is left in here.
    chmodSync(join(folder, 'ca.pem'), 0o644);
    chmodSync(folder, 0o755);
    return { caFile: join(folder, 'ca.pem'), cert, key, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

function openssl(cwd: string, args: readonly string[]): void {
  try {
    execFileSync('openssl', args, { cwd, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new Error('the openssl command is missing; the stand-in upstream makes its certificates with it');
    }
    throw error;
  }
}
