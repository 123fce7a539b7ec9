/** How the key is sent: the daemon's flags, and the header they put it in. */
export interface CredentialHeader {
  readonly args: readonly string[];
  readonly name: string;
  valueWith(key: string): string;
}

/** Promises about the key must hold for each of these. */
export const credentialHeaders = {
  'Authorization: Bearer': { args: [], name: 'Authorization', valueWith: (key) => `Bearer ${key}` },
  'api-key, as Azure wants it': { args: ['--auth-header', 'api-key'], name: 'api-key', valueWith: (key) => key },
} as const satisfies Record<string, CredentialHeader>;
