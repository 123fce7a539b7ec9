/** Calls `act`, which must not wait for anything, with another user's rights to files; as root. */
export function asUser<T>({ uid, gid }: { readonly uid: number; readonly gid: number }, act: () => T): T {
  const [ownUid, ownGid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  process.setegid?.(gid);
  process.seteuid?.(uid);
  try {
    return act();
  } finally {
    process.seteuid?.(ownUid);
    process.setegid?.(ownGid);
  }
}
