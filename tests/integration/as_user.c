/*
 * Starts a Python script as root and hands the uid and gid of whoever started this on to it.
 *
 * For programs that start something as a user who may not reach the Python of the tests.  It is setuid root and belongs
 * to the group of that user alone, in a directory of the test.  PYTHON and SCRIPT are given by the compiler.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char uid[24], gid[24];
    char **given = calloc((size_t)argc + 5, sizeof *given);
    int at;

    if (given == NULL)
        return 75;
    snprintf(uid, sizeof uid, "%ld", (long)getuid());
    snprintf(gid, sizeof gid, "%ld", (long)getgid());
    given[0] = PYTHON;
    given[1] = SCRIPT;
    given[2] = uid;
    given[3] = gid;
    for (at = 1; at < argc; at++)
        given[at + 3] = argv[at];
    if (setuid(0) != 0) {
        perror("setuid");
        return 75;
    }
    execv(PYTHON, given);
    perror(PYTHON);
    return 75;
}
