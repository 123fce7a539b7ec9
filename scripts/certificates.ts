import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTemporaryFolder } from './temporary-folder.ts';

/** Paths of a certificate and its private key, both PEM. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

/** When a certificate is valid, in the form YYYYMMDDHHMMSSZ. */
export interface Validity {
  readonly from: string;
  readonly until: string;
}

/** A server's certificate and key, and the path of the CA certificate to trust. */
export interface Certificates {
  readonly caFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Removes the folder of the CA file; may be called twice. */
  remove(): void;
}

const validDays = 2;
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A throwaway CA: NAME.pem and NAME.key in `folder`, valid for two days. Needs the `openssl` command. */
export class Authority {
  readonly caFile: string;
  readonly #folder: string;
  readonly #name: string;

  /** @param issuer another CA that vouches for this one; without, it vouches for itself */
  constructor(folder: string, name: string, issuer?: Authority) {
    this.#folder = folder;
    this.#name = name;
    this.caFile = join(folder, `${name}.pem`);
    const extensions = ['basicConstraints = critical, CA:TRUE', 'keyUsage = critical, keyCertSign', 'subjectKeyIdentifier = hash'];
    if (issuer === undefined) makeSelfSigned(folder, name, extensions);
    else issuer.#sign(name, extensions);
  }

  /**
   * Makes NAME.pem and NAME.key, a server's identity that this CA vouches for.
   * @param names its subjectAltName, as in `DNS:localhost,IP:127.0.0.1`
   * @param validity two days from now by default
   */
  issue(name: string, names: string, validity?: Validity): Identity {
    const extensions = ['basicConstraints = critical, CA:FALSE', 'keyUsage = critical, digitalSignature', 'extendedKeyUsage = serverAuth', 'authorityKeyIdentifier = keyid', `subjectAltName = ${names}`];
    return this.#sign(name, extensions, validity);
  }

  #sign(name: string, extensions: readonly string[], validity?: Validity): Identity {
    const identity = identityIn(this.#folder, name);
    const request = join(this.#folder, `${name}.csr`);
    const index = join(this.#folder, `${name}.index`);
    const serial = join(this.#folder, `${name}.serial`);
    writeFileSync(index, '');
    writeFileSync(serial, `01${randomBytes(7).toString('hex')}\n`);
    // `openssl ca` is the only command that takes a start date in every version, and it insists on a database.
    const config = writeConfiguration(this.#folder, name, [
      '[ca]', 'default_ca = throwaway',
      '[throwaway]', `database = ${index}`, `serial = ${serial}`, `new_certs_dir = ${this.#folder}`, 'default_md = sha256', 'policy = any', 'x509_extensions = extensions',
      '[any]', 'commonName = supplied',
    ], extensions);
    openssl(['req', '-new', ...newKey, '-config', config, '-subj', `/CN=throwaway ${name}`, '-keyout', identity.key, '-out', request]);
    openssl(['ca', '-batch', '-notext', '-config', config, '-cert', this.caFile, '-keyfile', join(this.#folder, `${this.#name}.key`), '-in', request, '-out', identity.cert,
      ...(validity === undefined ? ['-days', String(validDays)] : ['-startdate', validity.from, '-enddate', validity.until])]);
    return identity;
  }
}

/**
 * Makes NAME.pem and NAME.key in `folder`: a certificate that vouches for itself, valid for two days.
 * @param extensions lines of openssl's configuration, as in `subjectAltName = DNS:localhost`
 */
export function makeSelfSigned(folder: string, name: string, extensions: readonly string[]): Identity {
  const identity = identityIn(folder, name);
  const config = writeConfiguration(folder, name, [], extensions);
  openssl(['req', '-x509', ...newKey, '-config', config, '-extensions', 'extensions', '-subj', `/CN=throwaway ${name}`, '-days', String(validDays),
    '-keyout', identity.key, '-out', identity.cert]);
  return identity;
}

/** The paths of an identity that was made in `folder`. */
export function identityIn(folder: string, name: string): Identity {
  return { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) };
}

/**
 * Makes a throwaway CA and a certificate for localhost and 127.0.0.1.
 * Only the public CA certificate stays on disk, readable by every user, until `remove` or the end of the process.
 */
export function makeCertificates(): Certificates {
  const { path: folder, remove } = makeTemporaryFolder('stand-in-ca-');
  try {
    const secret = join(folder, 'secret');
    mkdirSync(secret, { mode: 0o700 });
    const authority = new Authority(secret, 'ca');
    const identity = authority.issue('server', 'DNS:localhost,IP:127.0.0.1');
    const [cert, key] = [readFileSync(identity.cert), readFileSync(identity.key)];
    const caFile = join(folder, 'ca.pem');
    copyFileSync(authority.caFile, caFile);
    rmSync(secret, { recursive: true });
    // A daemon that runs as another user must be able to read the CA; no secret is left in here.
    chmodSync(caFile, 0o644);
    chmodSync(folder, 0o755);
    return { caFile, cert, key, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** A configuration of our own, so that the machine's openssl.cnf neither has to exist nor can interfere. Returns its path. */
function writeConfiguration(folder: string, name: string, sections: readonly string[], extensions: readonly string[]): string {
  const file = join(folder, `${name}.cnf`);
  writeFileSync(file, ['[req]', 'distinguished_name = subject', '[subject]', ...sections, '[extensions]', ...extensions, ''].join('\n'));
  return file;
}

function openssl(args: readonly string[]): void {
  try {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new Error('the openssl command is missing; the throwaway certificates are made with it');
    }
    throw error;
  }
}
