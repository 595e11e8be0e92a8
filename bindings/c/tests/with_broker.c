/* Runs a program with a broker beside it: with_broker PROGRAM ARGUMENT..., where an argument {} is the broker's address. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    ottla_cluster *cluster = NULL;
    OK(ottla_cluster_start(NULL, &cluster, &error));
    char servers[256];
    snprintf(servers, sizeof servers, "%s", ottla_cluster_bootstrap_servers(cluster));
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "{}") == 0) argv[i] = servers;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execvp(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    OK(ottla_cluster_stop(cluster, &error));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
