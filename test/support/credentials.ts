/** How the key travels: the flags that make it so, and the header it is then in. */
export interface CredentialHeader {
  readonly args: readonly string[];
  readonly name: string;
  valueWith(key: string): string;
}

/** What a promise about the key has to hold for. */
export const credentialHeaders = {
  'Authorization: Bearer': { args: [], name: 'Authorization', valueWith: (key) => `Bearer ${key}` },
  'api-key, as Azure wants it': { args: ['--auth-header', 'api-key', '--auth-scheme', 'none'], name: 'api-key', valueWith: (key) => key },
} as const satisfies Record<string, CredentialHeader>;
