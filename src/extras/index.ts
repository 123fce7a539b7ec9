/**
 * The one module of this folder that the core loads, where a flag or a command asks for it. What is small comes with it;
 * the rest is loaded where it is needed.
 */
export { readClientToken } from './client-token.ts';
export { peerLookup } from './peer.ts';
export { checkRenewable, readOn } from './renewal.ts';
export { findUsers } from './users.ts';

export const loadAuditCommand = () => import('./audit/audit-command.ts');
export const loadCheck = () => import('./check.ts');
export const loadOversight = () => import('./oversight.ts');
