/**
 * Where node begins. What has to be settled before anything else is loaded comes first; then the daemon, whose run reads
 * from top to bottom in `daemon.ts`. An import that is not awaited here would be loaded before either.
 */
import './run/preload.ts';

await import('./daemon.ts');
