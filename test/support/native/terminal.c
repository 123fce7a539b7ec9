/* terminal COLUMNS COMMAND...: runs a command whose stdout is a terminal of that width, and copies what it writes there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int main(int count, char *arguments[]) {
  if (count < 3) return 2;
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return 2;
  int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
  struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)atoi(arguments[1])};
  struct termios settings;
  if (terminal < 0 || ioctl(terminal, TIOCSWINSZ, &size) != 0 || tcgetattr(terminal, &settings) != 0) return 2;
  cfmakeraw(&settings); /* or it would put a CR before each LF */
  if (tcsetattr(terminal, TCSANOW, &settings) != 0) return 2;

  pid_t child = fork();
  if (child == 0) {
    dup2(terminal, STDOUT_FILENO);
    execvp(arguments[2], arguments + 2);
    _exit(2);
  }
  close(terminal);
  char piece[4096];
  for (ssize_t length; (length = read(master, piece, sizeof piece)) > 0;) { /* EIO once nobody has the terminal open */
    if (write(STDOUT_FILENO, piece, (size_t)length) != length) return 2;
  }
  int status;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
