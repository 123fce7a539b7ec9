/**
 * Where node begins. What has to be settled before anything else is loaded comes first; then the daemon, whose run reads
 * from top to bottom in `daemon.ts`. A static import of that would be loaded before the first one acts.
 */
import { isNodeSupported } from './run/preload.ts';

if (isNodeSupported) await import('./daemon.ts');
