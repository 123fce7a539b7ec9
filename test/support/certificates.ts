import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { inject } from 'vitest';
import { Authority, identityIn, makeSelfSigned, type Identity } from '../../scripts/certificates.ts';
import { scratchFolder } from './scratch.ts';

/**
 * The identities an upstream can have:
 * `good` is for localhost, 127.0.0.1 and ::1; `wrongHost` is for other names, among them api.openai.com; `expired` was valid in January 2020
 * (all three are signed by our CA); `selfSigned` is for the right host, but no CA signed it.
 */
export type IdentityName = 'good' | 'wrongHost' | 'expired' | 'selfSigned';

const goodNames = 'DNS:localhost,IP:127.0.0.1,IP:::1';

/** The path of the CA that signed `good`, `wrongHost` and `expired`. */
export function caFile(): string {
  return join(inject('runFolder'), 'tls', 'ca.pem');
}

/** The path of another CA, which signed none of the identities. */
export function otherCaFile(): string {
  return join(inject('runFolder'), 'tls', 'other-ca.pem');
}

export function identity(name: IdentityName): Identity {
  return identityIn(join(inject('runFolder'), 'tls'), name);
}

/** A certificate for localhost that an issuing CA signed, which a root CA signed; paths of all three, and of the key. Each call makes others. */
export function makeChain(): { readonly root: string; readonly issuing: string; readonly leaf: Identity } {
  const folder = scratchFolder();
  const root = new Authority(folder, 'root');
  const issuing = new Authority(folder, 'issuing', root);
  return { root: root.caFile, issuing: issuing.caFile, leaf: issuing.issue('leaf', goodNames) };
}

/** Makes all of them in `folder`/tls, which every user may read. */
export function makeTestCertificates(folder: string): void {
  const tls = join(folder, 'tls');
  mkdirSync(tls);
  chmodSync(tls, 0o755);
  const authority = new Authority(tls, 'ca');
  authority.issue('good' satisfies IdentityName, goodNames);
  authority.issue('wrongHost' satisfies IdentityName, 'DNS:elsewhere.example,DNS:api.openai.com');
  authority.issue('expired' satisfies IdentityName, goodNames, { from: '20200101000000Z', until: '20200201000000Z' });
  chmodSync(authority.caFile, 0o644);
  chmodSync(new Authority(tls, 'other-ca').caFile, 0o644);
  makeSelfSigned(tls, 'selfSigned' satisfies IdentityName, [`subjectAltName = ${goodNames}`]);
}
