/** The door of this room: the core loads this file alone, where a flag or a command asks for it, and it loads the rest. */
export const loadOversight = () => import('./oversight.ts');
export const loadAuditCommand = () => import('./audit/audit-command.ts');
