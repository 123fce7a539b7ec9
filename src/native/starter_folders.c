/*
 * Finds the folders of --server-info and of the logs, once: Landlock's rules are about them, and the daemon gets them as
 * open descriptors. From then on nobody can lead it elsewhere by replacing a part of the path.
 *
 * The kernel alone would follow any link: whoever may change a part of the path could have root write a file in any
 * folder. openat2(2) could refuse links, but /var/run is one.
 */
#include "starter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Links that the kernel follows in one path, path_resolution(7). */
enum { MAX_LINKS = 40 };

/* O_DIRECTORY makes autofs mount the folder. */
enum { FOLDER = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

static bool is_ours(const struct stat *stats) {
  return stats->st_uid == 0 || stats->st_uid == geteuid();
}

/* Not the daemon's own group: where each user has a private group, a umask of 002 is common. An ACL shows as the group's right. */
static bool others_may_write(const struct stat *stats) {
  return (stats->st_mode & S_IWOTH) != 0 || ((stats->st_mode & S_IWGRP) != 0 && stats->st_gid != getegid());
}

/*
 * No other user can have made the link, or replace it. In a sticky folder such as /tmp others cannot replace a link of
 * ours. But they can give one from elsewhere a second name there, where fs.protected_hardlinks is 0; so it must have one
 * name. (Secrets in Kubernetes are such links.)
 */
static bool is_trusted(const struct stat *link, const struct stat *folder) {
  if (!is_ours(link) || !is_ours(folder)) return false;
  return !others_may_write(folder) || ((folder->st_mode & S_ISVTX) != 0 && link->st_nlink == 1);
}

/* As fs.protected_symlinks (proc_sys_fs(5)), which readlink(2) bypasses. */
static bool is_followed_by_kernel(const struct stat *link, const struct stat *folder) {
  return (folder->st_mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH) || link->st_uid == geteuid() || link->st_uid == folder->st_uid;
}

/* As root, a log takes no other user's link. A plain user's takes what the kernel does, as /var/log on Ubuntu needs it. */
static bool may_follow(const struct place *place, const struct stat *link, const struct stat *folder) {
  bool is_log = strcmp(place->flag, "--server-info") != 0;
  return is_log && geteuid() != 0 ? is_followed_by_kernel(link, folder) : is_trusted(link, folder);
}

_Noreturn static void refuse(const struct place *place, const char *hint, const char *name, const char *why) {
  fail(EXIT_FAILED, hint, "cannot open the folder of %s %s: %s%s", place->flag, place->file, name, why);
}

/*
 * Puts what the link says before the rest of the path; false if it is no link, or if that does not fit: the starter ends
 * then, and what is open with it.
 */
static bool follow(const struct place *place, int folder, const char *name, char *rest) {
  char path[PATH_MAX], target[PATH_MAX];
  struct stat link_stats, folder_stats;
  int link = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (link < 0 || fstat(link, &link_stats) != 0 || fstat(folder, &folder_stats) != 0) return false;
  errno = ENOTDIR;
  if (!S_ISLNK(link_stats.st_mode)) return false;
  if (!may_follow(place, &link_stats, &folder_stats)) {
    refuse(place, "name the folder that it leads to", name, " is a symbolic link that another user can change");
  }
  ssize_t length = readlinkat(link, "", target, sizeof target);
  close(link);
  if (length < 0) return false;
  errno = ENAMETOOLONG;
  if (snprintf(path, sizeof path, "%.*s/%s", (int)length, target, rest) >= (int)sizeof path) return false;
  strcpy(rest, path);
  return true;
}

/* Goes one name at a time, with each folder held open. Gives -1 with errno. */
static int walk(const struct place *place) {
  bool makes_folders = strcmp(place->flag, "--server-info") == 0;
  char rest[PATH_MAX], name[PATH_MAX];
  errno = ENAMETOOLONG;
  if (strlen(place->file) >= sizeof rest) return -1;
  strcpy(rest, place->file);
  int folder = open(*rest == '/' ? "/" : ".", FOLDER);
  for (int links = 0; folder >= 0;) {
    size_t slashes = strspn(rest, "/"), length = strcspn(rest + slashes, "/");
    if (rest[slashes + length] == '\0') return folder; /* what is left is the file's name */
    memcpy(name, rest + slashes, length);
    name[length] = '\0';
    memmove(rest, rest + slashes + length + 1, strlen(rest + slashes + length));
    int next = openat(folder, name, FOLDER);
    if (next < 0 && errno == ENOENT && makes_folders && (mkdirat(folder, name, 0755) == 0 || errno == EEXIST)) next = openat(folder, name, FOLDER);
    if (next < 0 && errno == ENOTDIR && follow(place, folder, name, rest)) {
      if (++links > MAX_LINKS) {
        errno = ELOOP;
        return -1;
      }
      next = *rest == '/' ? open("/", FOLDER) : fcntl(folder, F_DUPFD_CLOEXEC, 0);
    }
    close(folder);
    folder = next;
  }
  return -1;
}

void open_folders(struct needs *needs) {
  for (struct place *place = needs->places; place < needs->places + PLACES; place++) {
    if (place->file == NULL) continue;
    const char *slash = strrchr(place->file, '/');
    place->name = slash == NULL ? place->file : slash + 1;
    if (*place->name == '\0' || strcmp(place->name, ".") == 0 || strcmp(place->name, "..") == 0) refuse(place, "name a file in it", "", "that is a folder itself");
    int folder = walk(place);
    /* Not where a standard stream is missing, and not closed by exec. */
    if (folder >= 0) place->folder = fcntl(folder, F_DUPFD, STDERR_FILENO + 1);
    if (folder < 0 || place->folder < 0) refuse(place, errno == ENOENT ? "create it first" : "choose another, or give the user who starts the daemon the right to write there", "", reason());
    close(folder);
    char variable[64], number[16];
    snprintf(variable, sizeof variable, "RESPONSES_API_PROXY_FOLDER_OF_%s", place->flag);
    snprintf(number, sizeof number, "%d", place->folder);
    tell(variable, number);
  }
}
