import { basename } from 'node:path';
import { unsafeFailure } from './failure.ts';

/**
 * The path of a flag's file by its folder, which the starter found and holds open (`../native/starter_folders.c`): no other
 * user can lead it elsewhere. The kernel takes /proc/self/fd/N for the open folder itself, wherever that has gone.
 *
 * @throws {Failure} with exit code 3 where there was no starter
 */
export function heldPath(flag: '--server-info' | '--audit-log', file: string): string {
  const folder = process.env[`RESPONSES_API_PROXY_FOLDER_OF_${flag}`];
  if (folder === undefined) throw unsafeFailure(`the folder of ${flag} is not open`, 'start it as responses-api-proxy, not by node');
  return `/proc/self/fd/${folder}/${basename(file)}`;
}
