/*
 * inetd: gives each connection to a program of its own, as inetd and systemd sockets do, for servers that need that.
 *
 *   inetd PORT PROGRAM [ARGUMENT...]      listens on 127.0.0.1; the connection is the program's input and output
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
    if (count < 3) { fputs("usage: inetd PORT PROGRAM [ARGUMENT...]\n", stderr); return 2; }
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    here.sin_port = htons((unsigned short)atoi(words[1]));
    int door = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(door, (struct sockaddr *)&here, sizeof here) || listen(door, 1024)) { perror("inetd"); return 1; }
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int peer = accept(door, 0, 0);
        if (peer < 0) continue;
        if (vfork() == 0) {
            signal(SIGCHLD, SIG_DFL);
            dup2(peer, 0);
            dup2(peer, 1);
            close(peer);
            close(door);
            execv(words[2], words + 2);
            _exit(127);
        }
        close(peer);
    }
}
