/* A program of DJB's checkpassword interface for tests: judges by the file "shadow" beside it.
 * Lines are name:password:uid:gid:home; the environment is appended to the file "environment". */
#define _GNU_SOURCE
#include <grp.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
    char given[513], path[4096], line[1024], directory[2048];
    size_t length = 0;
    ssize_t got;
    FILE *file;

    if (argc < 2 || readlink("/proc/self/exe", directory, sizeof directory - 1) < 0)
        return 2;
    while (length < sizeof given && (got = read(3, given + length, sizeof given - length)) > 0)
        length += got;
    close(3);
    if (length > 512 || !length || given[length - 1])
        return 2;
    const char *name = given, *password = name + strlen(name) + 1;
    snprintf(path, sizeof path, "%s", directory);
    char *base = dirname(path);
    if (chdir(base) < 0)
        return 111;
    if ((file = fopen("environment", "a"))) {
        for (char **one = environ; *one; one++)
            fprintf(file, "%s\n", *one);
        fprintf(file, "timestamp %s\n", password + strlen(password) + 1);
        fclose(file);
    }
    if (!strcmp(name, "later"))
        return 111;
    if (!strcmp(name, "misused"))
        return 2;
    if (!strcmp(name, "odd"))
        return 77;
    if (!strcmp(name, "yesman"))
        return 0;
    if (!strcmp(name, "crashes"))
        abort();
    if (!strcmp(name, "hangs"))
        sleep(1000);
    if (!strcmp(name, "says"))
        fprintf(stderr, "the password is %s\n", password);
    if (!(file = fopen("shadow", "r")))
        return 111;
    while (fgets(line, sizeof line, file)) {
        char *rest = line, *field[5] = { 0 };
        line[strcspn(line, "\n")] = 0;
        for (int number = 0; number < 5; number++)
            field[number] = strsep(&rest, ":");
        if (!field[4] || strcmp(field[0], name) || strcmp(field[1], password))
            continue;
        fclose(file);
        gid_t gid = atoi(field[3]);
        if (getuid() == 0 && (setgroups(1, &gid) || setgid(gid) || setuid(atoi(field[2]))))
            return 111;
        if (chdir(field[4]))
            return 111;
        setenv("USER", "renamed", 1);
        setenv("HOME", field[4], 1);
        setenv("SHELL", "/bin/sh", 1);
        setenv("uid", "0", 1);
        if (!strcmp(name, "virtual")) {
            setenv("MAILDIR", "./mail/elsewhere", 1);
            setenv("userdb_uid", "daemon", 1);
        }
        execvp(argv[1], argv + 1);
        return 111;
    }
    return 1;
}
