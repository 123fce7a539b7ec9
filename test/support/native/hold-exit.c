/*
 * hold-exit REPORT PROGRAM INPUT -- COMMAND [ARGUMENTS]
 *
 * Runs a command and holds it where it is about to end: when it calls exit_group(2), `PROGRAM PID` is run with the file
 * INPUT as its standard input and its output appended to the file REPORT; then the command may end. Its process is the
 * one that was started, and nobody traces it: the call is announced by seccomp(2) to a child that stays behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
  perror(what);
  _exit(125);
}

static void send_descriptor(int channel, int fd) {
  char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(channel, &message, 0) != 1) die("hold-exit: sendmsg");
}

static int receive_descriptor(int channel) {
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1) _exit(1);
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

static void look(pid_t pid, const char *report, const char *program, const char *input) {
  pid_t child = fork();
  if (child == 0) {
    char number[16];
    snprintf(number, sizeof number, "%d", pid);
    if (dup2(open(input, O_RDONLY), 0) < 0 || dup2(open(report, O_WRONLY | O_APPEND | O_CREAT, 0644), 1) < 0) _exit(126);
    execl(program, program, number, (char *)NULL);
    _exit(127);
  }
  waitpid(child, NULL, 0);
}

static pid_t process_of(pid_t thread) {
  char path[64], line[256];
  pid_t process = 0;
  snprintf(path, sizeof path, "/proc/%d/status", thread);
  FILE *status = fopen(path, "re");
  if (status == NULL) return 0;
  while (process == 0 && fgets(line, sizeof line, status) != NULL) sscanf(line, "Tgid: %d", &process);
  fclose(status);
  return process;
}

/* Lives until nobody is left to be held. */
static void watch(int channel, pid_t command, char **arguments) {
  int listener = receive_descriptor(channel);
  close(channel);
  for (;;) {
    struct seccomp_notif call = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
      if (errno == EINTR) continue;
      if (errno == ENOENT) {
        /* Who was about to end was killed, or none is left. */
        if (kill(command, 0) != 0) _exit(0);
        continue;
      }
      _exit(0);
    }
    if (process_of((pid_t)call.pid) == command) look(command, arguments[1], arguments[2], arguments[3]);
    struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
}

int main(int count, char **arguments) {
  if (count < 6 || strcmp(arguments[4], "--") != 0) {
    fprintf(stderr, "usage: hold-exit REPORT PROGRAM INPUT -- COMMAND [ARGUMENTS]\n");
    return 125;
  }
  int channel[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0) die("hold-exit: socketpair");
  pid_t command = getpid();
  pid_t watcher = fork();
  if (watcher < 0) die("hold-exit: fork");
  if (watcher == 0) {
    /* Not to keep open what others wait to see closed. */
    for (int fd = 0; fd < 3; fd++) close(fd);
    close(channel[0]);
    watch(channel[1], command, arguments);
  }
  close(channel[1]);

  struct sock_filter program[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof program / sizeof *program, program};
  int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
  if (listener < 0) die("hold-exit: seccomp");
  send_descriptor(channel[0], listener);
  close(listener);
  execvp(arguments[5], arguments + 5);
  die(arguments[5]);
}
