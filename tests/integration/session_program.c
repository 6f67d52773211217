/*
 * A program that serves a session after the login, for tests: it says who it is and where, and knows a few commands.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void reply(const char *text)
{
    printf("%s\r\n", text);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[512], directory[1024];
    int at, open_files = 0;

    setvbuf(stdin, NULL, _IONBF, 0);
    if (argc > 1 && strcmp(argv[1], "greet") == 0)
        reply("+OK the program greets");
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "WHO") == 0) {
            reply("+OK");
            printf("ids %d %d %d %d\r\n", (int)getuid(), (int)geteuid(), (int)getgid(), (int)getegid());
            printf("cwd %s\r\n", getcwd(directory, sizeof directory));
            for (at = 3; at < 256; at++)
                open_files += fcntl(at, F_GETFD) != -1;
            printf("files %d\r\n", open_files);
            for (at = 0; at < argc; at++)
                printf("arg %s\r\n", argv[at]);
            for (at = 0; environ[at] != NULL; at++)
                printf("env %s\r\n", environ[at]);
            reply(".");
        } else if (strcmp(line, "BIG") == 0) {
            reply("+OK");
            for (at = 0; at < 200000; at++)
                printf("%09d of many lines\r\n", at);
            reply(".");
        } else if (strcmp(line, "FAIL") == 0) {
            fprintf(stderr, "the program complains\n");
            return 3;
        } else if (strcmp(line, "QUIT") == 0) {
            reply("+OK bye from the program");
            return 0;
        } else {
            reply("-ERR unknown");
        }
    }
    return 0;
}
