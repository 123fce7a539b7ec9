import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inject } from 'vitest';

const run = promisify(execFile);

const identityNames = ['good', 'wrongHost', 'expired', 'selfSigned'] as const;

/**
 * The identities an upstream can have:
 * `good` is for localhost, 127.0.0.1 and ::1; `wrongHost` for other names, api.openai.com among them; `expired` was good in 2020 (all three by our CA);
 * `selfSigned` is for the right host, by nobody we trust.
 */
export type IdentityName = (typeof identityNames)[number];

/** Paths of PEM files. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

const goodNames = 'DNS:localhost,IP:127.0.0.1,IP:::1';
const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** The path of the CA that signed `good`, `wrongHost` and `expired`. */
export function caFile(): string {
  return join(inject('runFolder'), 'tls', 'ca.pem');
}

/** The path of another CA, which signed nothing that is served here. */
export function otherCaFile(): string {
  return join(inject('runFolder'), 'tls', 'other-ca.pem');
}

export function identity(name: IdentityName): Identity {
  return identityIn(join(inject('runFolder'), 'tls'), name);
}

/** Makes all of them in `folder`/tls with the openssl command. */
export async function makeCertificates(folder: string): Promise<void> {
  const tls = join(folder, 'tls');
  await mkdir(tls);
  await Promise.all([
    makeCa(tls, 'ca').then(async () => {
      // `openssl ca` keeps a database, so one after the other.
      await makeLeaf(tls, 'good', goodNames);
      await makeLeaf(tls, 'wrongHost', 'DNS:elsewhere.example,DNS:api.openai.com');
      await makeLeaf(tls, 'expired', goodNames, ['-startdate', '20200101000000Z', '-enddate', '20200201000000Z']);
    }),
    makeCa(tls, 'other-ca'),
    makeSelfSigned(tls),
  ]);
}

async function makeCa(tls: string, name: string): Promise<void> {
  await run('openssl', ['req', '-x509', ...curve, '-keyout', `${tls}/${name}.key`, '-out', `${tls}/${name}.pem`, '-subj', `/CN=throwaway ${name}`,
    '-days', '2', '-addext', 'basicConstraints=critical,CA:true', '-addext', 'keyUsage=critical,keyCertSign,cRLSign']);
}

async function makeLeaf(tls: string, name: IdentityName, subjectAltName: string, validity: readonly string[] = ['-days', '2']): Promise<void> {
  const { cert, key } = identityIn(tls, name);
  const config = join(tls, `${name}.cnf`);
  // -startdate exists in `openssl ca` alone (`openssl x509` has -not_before only since 3.4), and that wants a configuration.
  await writeFile(`${tls}/${name}.index`, '');
  await writeFile(config, [
    '[ca]', 'default_ca = throwaway',
    '[throwaway]', `database = ${tls}/${name}.index`, `new_certs_dir = ${tls}`, 'rand_serial = yes', 'default_md = sha256', 'policy = any', 'x509_extensions = leaf',
    '[any]', 'commonName = supplied',
    '[leaf]', `subjectAltName = ${subjectAltName}`, 'basicConstraints = CA:false', 'extendedKeyUsage = serverAuth', '',
  ].join('\n'));
  await run('openssl', ['req', '-new', ...curve, '-keyout', key, '-out', `${tls}/${name}.csr`, '-subj', `/CN=throwaway ${name}`]);
  await run('openssl', ['ca', '-batch', '-notext', '-config', config, '-cert', `${tls}/ca.pem`, '-keyfile', `${tls}/ca.key`,
    '-in', `${tls}/${name}.csr`, '-out', cert, ...validity]);
}

async function makeSelfSigned(tls: string): Promise<void> {
  const { cert, key } = identityIn(tls, 'selfSigned');
  await run('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', cert, '-subj', '/CN=throwaway stranger', '-days', '2',
    '-addext', `subjectAltName=${goodNames}`]);
}

function identityIn(tls: string, name: IdentityName): Identity {
  return { cert: join(tls, `${name}.pem`), key: join(tls, `${name}.key`) };
}
