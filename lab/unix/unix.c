// What the calls on AF_UNIX and netlink sockets answer, one line each. Run on two kernels, the outputs are to be equal: no line
// has a number in it that may differ (descriptors are given by their order, processes by role).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *ename(int e) { return e ? strerrorname_np(e) : "0"; }
#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
// The value of a call, or the name of its error.
#define R(what, x) do { errno = 0; long r_ = (x); if (r_ < 0) SAY("%s: %s\n", what, ename(errno)); else SAY("%s: %ld\n", what, r_); } while (0)
// Success or the name of its error.
#define OK(what, x) do { errno = 0; long r_ = (x); SAY("%s: %s\n", what, r_ < 0 ? ename(errno) : "ok"); } while (0)

static volatile int pipes;
static void on_pipe(int s) { (void)s; pipes++; }
static void alarmed(int s) { (void)s; }
static int sock(int type) { int s = socket(AF_UNIX, type, 0); if (s < 0) { perror("socket"); exit(1); } return s; }
static void pair(int type, int s[2]) { if (socketpair(AF_UNIX, type, 0, s)) { perror("socketpair"); exit(1); } }
static socklen_t path(struct sockaddr_un *a, const char *p) { memset(a, 0, sizeof *a); a->sun_family = AF_UNIX; strcpy(a->sun_path, p); return sizeof *a; }
static socklen_t abst(struct sockaddr_un *a, const char *p) { memset(a, 0, sizeof *a); a->sun_family = AF_UNIX; strcpy(a->sun_path + 1, p); return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(p); }
static void nb(int s, int on) { fcntl(s, F_SETFL, on ? O_NONBLOCK : 0); }
static void events(const char *what, int s) {
    struct pollfd p = { s, 0xffff & ~POLLNVAL, 0 }; poll(&p, 1, 0);
    SAY("%s:%s%s%s%s%s%s\n", what, p.revents & POLLIN ? " in" : "", p.revents & POLLOUT ? " out" : "", p.revents & POLLHUP ? " hup" : "", p.revents & POLLRDHUP ? " rdhup" : "", p.revents & POLLERR ? " err" : "", p.revents & POLLPRI ? " pri" : "");
}
static void name(const char *what, int s, int peer) {
    struct sockaddr_un a; socklen_t l = sizeof a; memset(&a, 'x', sizeof a);
    int r = peer ? getpeername(s, (void *)&a, &l) : getsockname(s, (void *)&a, &l);
    if (r) { SAY("%s: %s\n", what, ename(errno)); return; }
    SAY("%s: len %d family %d '", what, (int)l, a.sun_family);
    for (int i = 2; i < (int)l && i < (int)sizeof a; i++) putchar(((char *)&a)[i] ? ((char *)&a)[i] : '@');
    SAY("'\n");
}
static long opt(int s, int o) { int v = -7; socklen_t l = sizeof v; if (getsockopt(s, SOL_SOCKET, o, &v, &l)) return -errno * 1000000L; return v; }
static int setopt(int s, int o, int v) { return setsockopt(s, SOL_SOCKET, o, &v, sizeof v); }
static void limit_ms(int s, int o, int ms) { struct timeval t = { ms / 1000, ms % 1000 * 1000 }; setsockopt(s, SOL_SOCKET, o, &t, sizeof t); }

// Sends bytes with descriptors and, if wanted, credentials.
static long send_fds(int s, const char *b, size_t n, int *fds, int nfds, struct ucred *u, int flags) {
    char c[CMSG_SPACE(sizeof(int) * 300) + CMSG_SPACE(sizeof *u)]; memset(c, 0, sizeof c);
    struct iovec v = { (void *)b, n }; struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m); size_t used = 0;
    if (nfds) { h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(nfds * sizeof(int)); memcpy(CMSG_DATA(h), fds, nfds * sizeof(int)); used += CMSG_SPACE(nfds * sizeof(int)); h = CMSG_NXTHDR(&m, h); }
    if (u) { h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_CREDENTIALS; h->cmsg_len = CMSG_LEN(sizeof *u); memcpy(CMSG_DATA(h), u, sizeof *u); used += CMSG_SPACE(sizeof *u); }
    m.msg_controllen = used;
    return sendmsg(s, &m, flags);
}
// Receives and tells everything; closes descriptors that came unless `keep` takes them.
static void take(const char *what, int s, size_t n, size_t room, int flags, int *keep, int nkeep) {
    char b[70000], c[2000]; memset(c, 0, sizeof c); struct sockaddr_un a; struct iovec v = { b, n };
    struct msghdr m = { .msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? c : 0, .msg_controllen = room };
    long r = recvmsg(s, &m, flags); int k = 0;
    if (r < 0) { SAY("%s: %s\n", what, ename(errno)); return; }
    SAY("%s: %ld '%.*s' flags %x name %d control %ld", what, r, (int)(r > 20 ? 20 : r > (long)n ? (long)n : r), b, m.msg_flags, (int)m.msg_namelen, (long)m.msg_controllen);
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level != SOL_SOCKET) { SAY(" level %d type %d", h->cmsg_level, h->cmsg_type); continue; }
        if (h->cmsg_type == SCM_RIGHTS) {
            int nf = (h->cmsg_len - CMSG_LEN(0)) / 4, *f = (int *)CMSG_DATA(h); SAY(" fds %d%s", nf, nf && fcntl(f[0], F_GETFD) & FD_CLOEXEC ? " cloexec" : "");
            for (int i = 0; i < nf; i++) if (k < nkeep) keep[k++] = f[i]; else close(f[i]);
        } else if (h->cmsg_type == SCM_CREDENTIALS) {
            struct ucred *u = (void *)CMSG_DATA(h); SAY(" creds %s %d %d", u->pid == getpid() ? "me" : u->pid == 0 ? "none" : u->pid == getppid() ? "parent" : "other", (int)u->uid, (int)u->gid);
        } else SAY(" type %d", h->cmsg_type);
    }
    SAY("\n");
}

static void creating(void) {
    int s[2];
    R("no such family", socket(99, SOCK_STREAM, 0)); R("family -1", socket(-1, SOCK_STREAM, 0));
    OK("type 0", socket(AF_UNIX, 0, 0)); OK("type 4", socket(AF_UNIX, 4, 0)); OK("type 11", socket(AF_UNIX, 11, 0)); OK("type 6", socket(AF_UNIX, 6, 0));
    OK("protocol 1", socket(AF_UNIX, SOCK_STREAM, 1)); OK("protocol 2", socket(AF_UNIX, SOCK_STREAM, 2)); OK("raw", socket(AF_UNIX, SOCK_RAW, 0));
    OK("flag 0x100", socket(AF_UNIX, SOCK_STREAM | 0x100, 0));
    int f = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); SAY("flags %x %x\n", fcntl(f, F_GETFD), fcntl(f, F_GETFL));
    OK("pair fault", socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)8)); pair(SOCK_RAW, s); SAY("raw pair is %ld\n", opt(s[0], SO_TYPE));
    struct stat st; fstat(f, &st); SAY("mode %o size %ld nlink %ld blksize %ld\n", st.st_mode, (long)st.st_size, (long)st.st_nlink, (long)st.st_blksize);
    char l[64], want[64], p[64]; sprintf(p, "/proc/self/fd/%d", f); int n = readlink(p, l, 63); l[n] = 0; sprintf(want, "socket:[%lu]", (unsigned long)st.st_ino); SAY("link %d\n", strcmp(l, want));
    OK("open it", open(p, O_RDWR)); R("seek", lseek(f, 0, SEEK_SET)); R("pread", pread(f, l, 1, 0)); R("not a socket", listen(0, 1)); R("bad fd", listen(99, 1));
    R("ftruncate", ftruncate(f, 0)); R("fsync", fsync(f)); R("read unconnected", read(f, l, 1)); R("write unconnected", write(f, l, 1)); events("unconnected", f);
    R("listen unbound", listen(f, 1)); R("accept unbound", accept(f, 0, 0)); R("accept4 flags", accept4(f, 0, 0, 1)); R("accept a file", accept(0, 0, 0)); name("name", f, 0); name("peer", f, 1);
    R("shutdown unconnected", shutdown(f, SHUT_RDWR)); R("shutdown 3", shutdown(f, 3)); events("shut", f);
    R("ioctl", ioctl(f, 0x5401, l)); int q = -1; R("inq", ioctl(f, FIONREAD, &q)); R("outq", ioctl(f, SIOCOUTQ, &q)); SAY("outq %d\n", q);
}
static void options(void) {
    int s = sock(SOCK_STREAM), d = sock(SOCK_DGRAM), v; socklen_t l;
    SAY("type %ld domain %ld protocol %ld accept %ld error %ld\n", opt(s, SO_TYPE), opt(s, SO_DOMAIN), opt(s, SO_PROTOCOL), opt(s, SO_ACCEPTCONN), opt(s, SO_ERROR));
    SAY("sndbuf %ld rcvbuf %ld lowat %ld %ld prio %ld\n", opt(s, SO_SNDBUF), opt(s, SO_RCVBUF), opt(s, SO_RCVLOWAT), opt(s, SO_SNDLOWAT), opt(s, SO_PRIORITY));
    int sizes[] = { 0, 1, 2303, 2304, 2305, 10000, 212991, 212992, 212993, 1 << 30, -1 };
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) { setopt(s, SO_SNDBUF, sizes[i]); setopt(s, SO_RCVBUF, sizes[i]); SAY("buf %d: %ld %ld\n", sizes[i], opt(s, SO_SNDBUF), opt(s, SO_RCVBUF)); }
    R("force", setopt(s, SO_SNDBUFFORCE, 1 << 20)); SAY("forced %ld\n", opt(s, SO_SNDBUF));
    int names[] = { SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_PASSCRED, SO_PASSSEC, SO_REUSEPORT, SO_PRIORITY, SO_RCVLOWAT, SO_SNDLOWAT, SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_PEERCRED, SO_PEEK_OFF, SO_DOMAIN, SO_PROTOCOL, 9999 };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) { char b[40]; sprintf(b, "set %d", names[i]); R(b, setopt(s, names[i], 1)); sprintf(b, "get %d", names[i]); SAY("%s: %ld\n", b, opt(s, names[i])); }
    R("priority 7", setopt(s, SO_PRIORITY, 7)); R("lowat -1", setopt(s, SO_RCVLOWAT, -1)); SAY("lowat %ld\n", opt(s, SO_RCVLOWAT)); R("lowat 0", setopt(s, SO_RCVLOWAT, 0)); SAY("lowat %ld\n", opt(s, SO_RCVLOWAT));
    R("short", setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, 3)); R("negative", setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, -1)); R("fault", setsockopt(s, SOL_SOCKET, SO_SNDBUF, (void *)8, 4)); R("level 6", setsockopt(s, 6, 1, &v, 4));
    l = 4; R("get level 6", getsockopt(s, 6, 1, &v, &l)); l = 2; R("get short", getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &l)); SAY("len %d\n", (int)l); l = -1; R("get negative", getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &l)); R("get fault", getsockopt(s, SOL_SOCKET, SO_TYPE, &v, (void *)8));
    l = 0; R("get nothing", getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &l)); SAY("len %d\n", (int)l);
    struct timeval t = { 0, 1000000 }; R("limit usec", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t)); R("limit short", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, 8));
    int ts[][2] = { { 0, 1 }, { 0, 4001 }, { 3, 500000 }, { -1, 0 }, { 0, 0 } };
    for (int i = 0; i < 5; i++) { t = (struct timeval){ ts[i][0], ts[i][1] }; R("limit", setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t)); l = sizeof t; getsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, &l); SAY("is %ld.%06ld %d\n", (long)t.tv_sec, (long)t.tv_usec, (int)l); }
    struct linger g = { 1, 5 }; R("linger", setsockopt(s, SOL_SOCKET, SO_LINGER, &g, sizeof g)); memset(&g, 0, sizeof g); l = sizeof g; getsockopt(s, SOL_SOCKET, SO_LINGER, &g, &l); SAY("linger %d %d %d\n", g.l_onoff, g.l_linger, (int)l); R("linger short", setsockopt(s, SOL_SOCKET, SO_LINGER, &g, 4));
    struct ucred u; l = sizeof u; getsockopt(d, SOL_SOCKET, SO_PEERCRED, &u, &l); SAY("no peer %d %d %d len %d\n", u.pid, (int)u.uid, (int)u.gid, (int)l);
    int p[2]; pair(SOCK_STREAM, p); l = sizeof u; getsockopt(p[0], SOL_SOCKET, SO_PEERCRED, &u, &l); SAY("peer me %d uid %d gid %d\n", u.pid == getpid(), (int)u.uid, (int)u.gid);
}
static void naming(void) {
    struct sockaddr_un a; socklen_t l; struct stat st; int s, t, d = sock(SOCK_DGRAM); char big[200]; memset(big, 'a', sizeof big); umask(027); mkdir("/tmp/u", 0755); chdir("/tmp/u");
    s = sock(SOCK_STREAM); l = path(&a, "/tmp/u/s"); R("bind", bind(s, (void *)&a, l)); name("bound", s, 0); stat("/tmp/u/s", &st); SAY("node %o\n", st.st_mode); R("again", bind(s, (void *)&a, l));
    l = path(&a, "/tmp/u/other"); R("second name", bind(s, (void *)&a, l)); R("node left", access("/tmp/u/other", F_OK));
    t = sock(SOCK_STREAM); l = path(&a, "/tmp/u/s"); R("in use", bind(t, (void *)&a, l)); R("refused", connect(t, (void *)&a, l)); R("dgram to stream", connect(d, (void *)&a, l)); R("open node", open("/tmp/u/s", O_RDWR)); R("cat node", open("/tmp/u/s", O_RDONLY));
    l = path(&a, "/tmp/u/none"); R("no node", connect(t, (void *)&a, l)); l = path(&a, "/tmp/u/no/x"); R("no folder", bind(t, (void *)&a, l)); l = path(&a, "/tmp/u"); R("a folder", bind(t, (void *)&a, l)); R("to a folder", connect(t, (void *)&a, l));
    close(open("/tmp/u/file", O_CREAT | O_RDWR, 0644)); l = path(&a, "/tmp/u/file"); R("to a file", connect(t, (void *)&a, l)); R("on a file", bind(t, (void *)&a, l)); l = path(&a, "/tmp/u/file/x"); R("below a file", bind(t, (void *)&a, l));
    symlink("/tmp/u/s", "/tmp/u/l"); l = path(&a, "/tmp/u/l"); R("on a link", bind(t, (void *)&a, l)); R("through a link", connect(t, (void *)&a, l)); l = path(&a, "slash/"); R("slash", bind(t, (void *)&a, l));
    l = path(&a, "rel"); R("short length", bind(t, (void *)&a, 2 + 3)); name("cut", t, 0); close(t); unlink("rel");
    memcpy(&a, big, sizeof a); a.sun_family = AF_UNIX; t = sock(SOCK_STREAM); R("full path", bind(t, (void *)&a, sizeof a)); { char b[130]; l = sizeof b; R("its name", getsockname(t, (void *)b, &l)); SAY("len %d\n", (int)l); } unlink(a.sun_path);
    t = sock(SOCK_STREAM); R("too long", bind(t, (void *)&a, sizeof a + 1)); R("length 1", bind(t, (void *)&a, 1)); R("length 0", bind(t, (void *)&a, 0)); R("length -1", bind(t, (void *)&a, -1)); R("length 200", bind(t, (void *)&a, 200)); R("fault", bind(t, (void *)8, 10));
    R("connect 0", connect(t, (void *)&a, 0)); R("connect 1", connect(t, (void *)&a, 1)); R("connect 2", connect(t, (void *)&a, 2)); R("connect -1", connect(t, (void *)&a, -1)); R("connect fault", connect(t, (void *)8, 10)); R("connect file", connect(0, (void *)&a, 10));
    a.sun_family = AF_UNSPEC; R("unspec", bind(t, (void *)&a, 10)); R("connect unspec", connect(t, (void *)&a, 10)); R("dgram unspec", connect(d, (void *)&a, 10)); a.sun_family = 77; R("family", bind(t, (void *)&a, 10)); R("dgram family", connect(d, (void *)&a, 10));
    l = abst(&a, "name"); R("abstract", bind(t, (void *)&a, l)); name("its", t, 0); int x = sock(SOCK_STREAM); R("taken", bind(x, (void *)&a, l)); R("other type", bind(d, (void *)&a, l)); R("not listening", connect(x, (void *)&a, l));
    close(t); R("free again", bind(x, (void *)&a, l)); l = abst(&a, "nobody"); t = sock(SOCK_STREAM); R("nobody", connect(t, (void *)&a, l));
    a.sun_family = AF_UNIX; R("autobind", bind(t, (void *)&a, 2)); { struct sockaddr_un b; l = sizeof b; getsockname(t, (void *)&b, &l); int hex = b.sun_path[0] == 0; for (int i = 1; i < 6; i++) hex &= strchr("0123456789abcdef", b.sun_path[i]) != 0; SAY("auto len %d %d\n", (int)l, hex); } R("autobind again", bind(t, (void *)&a, 2));
    { char b[3] = "xxx"; l = 3; getsockname(x, (void *)b, &l); SAY("short name len %d\n", (int)l); l = -1; R("negative", getsockname(x, (void *)b, &l)); R("fault", getsockname(x, (void *)8, (l = 4, &l))); R("len fault", getsockname(x, (void *)b, (void *)8)); }
    // Permissions.
    chmod("/tmp/u/s", 0600); listen(s, 5); if (!fork()) { setgid(1000); setuid(1000); int y = sock(SOCK_STREAM); l = path(&a, "/tmp/u/s"); R("no permission", connect(y, (void *)&a, l)); l = path(&a, "/tmp/u/mine"); R("no right to make", bind(y, (void *)&a, l)); R("sndbuf force", setopt(y, SO_SNDBUFFORCE, 1)); R("debug", setopt(y, SO_DEBUG, 1)); R("priority 7", setopt(y, SO_PRIORITY, 7)); _exit(0); } wait(0);
    rename("/tmp/u/s", "/tmp/u/moved"); t = sock(SOCK_STREAM); l = path(&a, "/tmp/u/moved"); R("moved", connect(t, (void *)&a, l)); name("peer of moved", t, 1); unlink("/tmp/u/moved"); close(t); t = sock(SOCK_STREAM); R("unlinked", connect(t, (void *)&a, l));
}
static void streams(void) {
    struct sockaddr_un a; socklen_t l; int s = sock(SOCK_STREAM), c[8], k, v; char b[1000];
    l = abst(&a, "st"); bind(s, (void *)&a, l); R("listen", listen(s, 2)); SAY("accepting %ld\n", opt(s, SO_ACCEPTCONN)); events("listening", s); R("listen -1", listen(s, -1)); R("listen 2", listen(s, 2));
    R("read listener", read(s, b, 1)); R("write listener", write(s, b, 1)); R("connect listener", connect(s, (void *)&a, l)); R("inq listener", ioctl(s, FIONREAD, &v)); name("peer of listener", s, 1);
    for (int i = 0; i < 5; i++) { c[i] = sock(SOCK_STREAM); nb(c[i], 1); char w[20]; sprintf(w, "connect %d", i); R(w, connect(c[i], (void *)&a, l)); } events("full", s); events("client", c[0]); events("refused client", c[4]); R("connect again", connect(c[0], (void *)&a, l)); R("listen connected", listen(c[0], 1));
    nb(c[3], 0); limit_ms(c[3], SO_SNDTIMEO, 50); R("blocking connect", connect(c[3], (void *)&a, l));
    R("write before accept", write(c[0], "early", 5)); struct sockaddr_un p; socklen_t pl = sizeof p; k = accept(s, (void *)&p, &pl); SAY("accepted %d len %d\n", k >= 0, (int)pl); name("accepted name", k, 0); name("accepted peer", k, 1); name("client peer", c[0], 1); take("early", k, 100, 200, 0, 0, 0);
    pl = 0; int k2 = accept(s, (void *)&p, &pl); SAY("len %d\n", (int)pl); int k3 = accept4(s, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC); SAY("accept4 %x %x\n", fcntl(k3, F_GETFD), fcntl(k3, F_GETFL)); nb(s, 1); R("nobody waits", accept(s, 0, 0)); nb(s, 0); limit_ms(s, SO_RCVTIMEO, 30); R("nobody in time", accept(s, 0, 0));
    struct ucred u; pl = sizeof u; getsockopt(k, SOL_SOCKET, SO_PEERCRED, &u, &pl); SAY("peercred me %d\n", u.pid == getpid());
    R("name given", sendto(k, "x", 1, 0, (void *)&a, l)); R("oob recv", recv(k3, b, 1, MSG_OOB | MSG_DONTWAIT) < 0); R("empty", recv(k, b, 10, MSG_DONTWAIT)); R("send nothing", send(k, b, 0, 0)); R("read nothing", read(k, b, 0)); R("recv nothing", recv(k, b, 0, MSG_DONTWAIT)); R("send fault", send(k, (void *)8, 10, 0)); R("recv fault", recv(k, (void *)-8L, 10, 0)); R("msg fault", sendmsg(k, (void *)8, 0));
    write(k, "abc", 3); write(k, "defg", 4); R("inq", (ioctl(c[0], FIONREAD, &v), v)); R("peek", recv(c[0], b, 100, MSG_PEEK)); R("peek 2", recv(c[0], b, 2, MSG_PEEK)); R("trunc", recv(c[0], b, 2, MSG_TRUNC)); SAY("%.2s\n", b); take("recvmsg", c[0], 100, 0, 0, 0, 0); events("read out", c[0]);
    write(k, "hello", 5); R("recv fault 2", recv(c[0], (void *)8, 5, 0)); R("still there", recv(c[0], b, 9, MSG_DONTWAIT));
    limit_ms(c[0], SO_RCVTIMEO, 30); R("time limit", recv(c[0], b, 1, 0)); write(k, "abc", 3); R("waitall in part", recv(c[0], b, 10, MSG_WAITALL)); R("lowat", setopt(c[0], SO_RCVLOWAT, 5)); write(k, "abc", 3); R("below lowat", recv(c[0], b, 10, 0)); setopt(c[0], SO_RCVLOWAT, 1);
    // Ends.
    R("shut wr", shutdown(k, SHUT_WR)); events("after shut wr, here", k); events("after shut wr, there", c[0]); R("end", read(c[0], b, 1)); R("write shut", send(k, b, 1, MSG_NOSIGNAL)); R("other way", write(c[0], "zz", 2)); R("is read", read(k, b, 9)); pipes = 0; R("write shut", write(k, b, 1)); SAY("signals %d\n", pipes);
    R("shut rd", shutdown(k, SHUT_RD)); events("both shut", k); events("both shut, there", c[0]); R("to shut", send(c[0], b, 1, MSG_NOSIGNAL)); R("read shut", read(k, b, 1));
    write(c[1], "unread", 6); close(k2); events("reset", c[1]); SAY("error %ld %ld\n", opt(c[1], SO_ERROR), opt(c[1], SO_ERROR)); R("after error", read(c[1], b, 1)); pipes = 0; R("write closed", write(c[1], b, 1)); SAY("signals %d\n", pipes); name("peer gone", c[1], 1);
    write(c[2], "unread", 6); write(k3, "data", 4); close(k3); R("data first", read(c[2], b, 10)); R("then reset", read(c[2], b, 10)); R("then end", read(c[2], b, 10)); R("write", send(c[2], b, 1, MSG_NOSIGNAL));
    for (int i = 5; i < 8; i++) c[i] = sock(SOCK_STREAM); R("c5", connect(c[5], (void *)&a, l)); R("c6", connect(c[6], (void *)&a, l)); write(c[5], "q", 1); write(s, "", 0); close(s); events("listener closed", c[5]); R("read embryo", read(c[5], b, 1)); R("again", read(c[5], b, 1)); R("write embryo", send(c[6], b, 1, MSG_NOSIGNAL)); R("closed listener", connect(c[7], (void *)&a, l));
    s = sock(SOCK_STREAM); bind(s, (void *)&a, l); listen(s, 1); R("shut listener", shutdown(s, SHUT_RD)); events("shut listener", s); R("connect shut", connect(c[7], (void *)&a, l)); R("accept shut", accept(s, 0, 0)); nb(s, 1); R("accept shut nb", accept(s, 0, 0)); close(s);
    int d = sock(SOCK_DGRAM); R("dgram listen", listen(d, 1)); R("dgram accept", accept(d, 0, 0));
    // How much fits.
    int sizes[] = { 1, 100, 385, 1000, 3000, 4096, 10000, 65536 };
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) { int q[2]; pair(SOCK_STREAM, q); nb(q[0], 1); char *x = calloc(1, 70000); long n = 0, r, w = 0; while ((r = write(q[0], x, sizes[i])) > 0) n += r, w++; int oq; ioctl(q[0], SIOCOUTQ, &oq); SAY("fits %d: %ld in %ld writes, %s, outq %d\n", sizes[i], n, w, ename(errno), oq); events("full", q[0]); long f = 0; char y[5000]; while (!(poll(&(struct pollfd){ q[0], POLLOUT, 0 }, 1, 0))) { r = read(q[1], y, 1000); f += r; } SAY("writable after %ld\n", f); close(q[0]); close(q[1]); free(x); }
    int q[2]; pair(SOCK_STREAM, q); char *x = calloc(1, 300000); limit_ms(q[0], SO_SNDTIMEO, 40); R("partial in time", send(q[0], x, 300000, 0)); R("no room in time", send(q[0], x, 10, 0)); signal(SIGALRM, alarmed); struct sigaction sa = { .sa_handler = alarmed }; sigaction(SIGALRM, &sa, 0); struct itimerval it = { { 0, 0 }, { 0, 30000 } }; limit_ms(q[0], SO_SNDTIMEO, 0); setitimer(ITIMER_REAL, &it, 0); R("interrupted", send(q[0], x, 10, 0)); setitimer(ITIMER_REAL, &it, 0); R("interrupted read", read(q[0], x, 10)); setopt(q[0], SO_SNDBUF, 1); R("small", send(q[0], x, 10, MSG_DONTWAIT)); free(x);
}
static void peeking(void) {
    int s[2]; char b[100]; pair(SOCK_STREAM, s); write(s[0], "abcdef", 6); write(s[0], "ghij", 4); setopt(s[1], SO_PEEK_OFF, 0);
    R("p1", recv(s[1], b, 2, MSG_PEEK)); SAY("%.2s\n", b); R("p2", recv(s[1], b, 2, MSG_PEEK)); SAY("%.2s off %ld\n", b, opt(s[1], SO_PEEK_OFF)); R("r", read(s[1], b, 3)); SAY("off %ld\n", opt(s[1], SO_PEEK_OFF)); R("p3", recv(s[1], b, 20, MSG_PEEK)); SAY("%.1s off %ld\n", b, opt(s[1], SO_PEEK_OFF)); R("p4", recv(s[1], b, 20, MSG_PEEK | MSG_DONTWAIT)); R("p5", recv(s[1], b, 20, MSG_PEEK | MSG_DONTWAIT));
    pair(SOCK_DGRAM, s); write(s[0], "abcdef", 6); write(s[0], "gh", 2); setopt(s[1], SO_PEEK_OFF, 0); R("d1", recv(s[1], b, 2, MSG_PEEK)); R("d2", recv(s[1], b, 20, MSG_PEEK)); SAY("%.4s off %ld\n", b, opt(s[1], SO_PEEK_OFF)); R("d3", recv(s[1], b, 20, MSG_PEEK)); R("d4", recv(s[1], b, 20, MSG_PEEK | MSG_DONTWAIT)); R("d5", read(s[1], b, 3)); SAY("off %ld\n", opt(s[1], SO_PEEK_OFF));
}
static void datagrams(void) {
    struct sockaddr_un a, e; socklen_t l, el; int r = sock(SOCK_DGRAM), s = sock(SOCK_DGRAM), t = sock(SOCK_DGRAM), v; char b[300000]; memset(b, 'b', sizeof b);
    l = abst(&a, "dg"); bind(r, (void *)&a, l); R("unconnected", send(s, b, 1, 0)); R("sendto", sendto(s, "hello", 5, 0, (void *)&a, l)); events("has one", r); R("inq", (ioctl(r, FIONREAD, &v), v)); take("unnamed", r, 100, 100, 0, 0, 0);
    el = abst(&e, "s"); bind(s, (void *)&e, el); sendto(s, "named", 5, 0, (void *)&a, l); take("named", r, 3, 100, 0, 0, 0); sendto(s, "again", 5, 0, (void *)&a, l); take("peek", r, 2, 0, MSG_PEEK | MSG_TRUNC, 0, 0); R("trunc", recv(r, b, 2, MSG_TRUNC)); R("empty", recv(r, b, 2, MSG_DONTWAIT));
    R("zero", sendto(s, b, 0, 0, (void *)&a, l)); R("one waits", (ioctl(r, FIONREAD, &v), v)); take("zero", r, 10, 0, 0, 0, 0); R("connect", connect(s, (void *)&a, l)); name("peer", s, 1); R("send", send(s, "x", 1, 0)); R("own name too", sendto(s, "y", 1, 0, (void *)&a, l)); R("read", read(r, b, 9)); R("read", read(r, b, 9));
    R("other sender", sendto(t, "q", 1, 0, (void *)&e, el)); R("r connects back", connect(r, (void *)&e, el)); R("stranger", sendto(t, "q", 1, 0, (void *)&a, l)); R("stranger connects", connect(t, (void *)&a, l)); R("too large", send(s, b, 212992 - 31, 0)); R("largest", send(s, b, 212992 - 32, 0)); R("is read", recv(r, b, sizeof b, 0)); R("fault", send(s, (void *)8, 10, 0)); R("oob", send(s, b, 1, MSG_OOB)); send(s, "w", 1, 0); R("recv fault", recv(r, (void *)8, 1, 0)); R("it is gone", recv(r, b, 1, MSG_DONTWAIT));
    R("shut rd", shutdown(r, SHUT_RD)); pipes = 0; R("to shut", send(s, b, 1, 0)); SAY("signals %d\n", pipes); events("shut", r); R("read shut", read(r, b, 1)); R("nb", recv(r, b, 1, MSG_DONTWAIT)); R("shut wr", shutdown(s, SHUT_WR)); R("send shut", write(s, b, 1)); SAY("signals %d\n", pipes); events("shut wr", s); close(r); close(s); close(t);
    // Queue length.
    r = sock(SOCK_DGRAM); s = sock(SOCK_DGRAM); bind(r, (void *)&a, l); connect(s, (void *)&a, l); nb(s, 1); int n = 0; while (send(s, "m", 1, 0) == 1) n++; SAY("queued %d %s\n", n, ename(errno)); events("full", s); int ep = epoll_create1(0); struct epoll_event ev = { EPOLLOUT | EPOLLET, { 0 } }; epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev); R("epoll", epoll_wait(ep, &ev, 1, 0)); R("read one", read(r, b, 9)); events("room", s); R("epoll", epoll_wait(ep, &ev, 1, 100)); send(s, "m", 1, 0); R("full", send(s, "m", 1, 0)); read(r, b, 9); R("epoll", epoll_wait(ep, &ev, 1, 100)); R("epoll", epoll_wait(ep, &ev, 1, 0)); nb(s, 0); send(s, "m", 1, 0); limit_ms(s, SO_SNDTIMEO, 40); R("in time", send(s, "m", 1, 0)); int t2 = sock(SOCK_DGRAM); R("other sender", sendto(t2, "m", 1, MSG_DONTWAIT, (void *)&a, l));
    R("reconnect unspec", connect(s, &(struct sockaddr){ AF_UNSPEC }, 2)); R("now unconnected", send(s, b, 1, 0)); connect(s, (void *)&a, l); close(r); events("receiver gone", s); R("refused", send(s, b, 1, 0)); R("not connected", send(s, b, 1, 0)); R("nobody", sendto(s, b, 1, 0, (void *)&a, l)); l = path(&a, "/tmp/u/file"); R("a file", sendto(s, b, 1, 0, (void *)&a, l)); l = path(&a, "/tmp/u/nonesuch"); R("no file", sendto(s, b, 1, 0, (void *)&a, l)); R("bad length", sendto(s, b, 1, 0, (void *)&a, 1)); R("length -1", sendto(s, b, 1, 0, (void *)&a, -1)); R("bad fd", sendto(99, b, 1, 0, 0, 0)); R("no socket", sendto(0, b, 1, 0, 0, 0)); R("buffer first", sendto(99, (void *)-8L, 100, 0, 0, 0));
    int p[2]; pair(SOCK_DGRAM, p); nb(p[0], 1); n = 0; while (send(p[0], "m", 1, 0) == 1) n++; SAY("pair queued %d %s\n", n, ename(errno)); n = 0; close(p[0]); while (recv(p[1], b, 1, MSG_DONTWAIT) == 1) n++; SAY("left %d %s\n", n, ename(errno)); R("to gone", send(p[1], b, 1, 0));
    pair(SOCK_DGRAM, p); connect(p[0], &(struct sockaddr){ AF_UNSPEC }, 2); events("peer left", p[1]); R("told", send(p[1], b, 1, 0)); R("then", send(p[1], b, 1, MSG_DONTWAIT));
    struct mmsghdr mm[4]; struct iovec iv[4]; char bb[4][10]; pair(SOCK_DGRAM, p); memset(mm, 0, sizeof mm); for (int i = 0; i < 4; i++) { iv[i] = (struct iovec){ bb[i], i + 1 }; memset(bb[i], 'a' + i, 10); mm[i].msg_hdr.msg_iov = &iv[i]; mm[i].msg_hdr.msg_iovlen = 1; } R("sendmmsg", sendmmsg(p[0], mm, 3, 0)); for (int i = 0; i < 4; i++) { iv[i].iov_len = 10; mm[i].msg_len = 0; } R("recvmmsg", recvmmsg(p[1], mm, 4, MSG_WAITFORONE, 0)); SAY("lens %u %u %u\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len); R("none", recvmmsg(p[1], mm, 4, MSG_DONTWAIT, 0)); struct timespec ts = { 0, 2000000000 }; R("limit", recvmmsg(p[1], mm, 4, 0, &ts));
}
static void packets(void) {
    int s[2]; char b[300]; pair(SOCK_SEQPACKET, s); R("send", send(s[0], "abcdef", 6, MSG_EOR)); R("send", send(s[0], "gh", 2, 0)); take("cut", s[1], 3, 0, 0, 0, 0); take("next", s[1], 30, 0, 0, 0, 0); R("zero", send(s[0], b, 0, 0)); R("zero read", recv(s[1], b, 9, 0)); R("none", recv(s[1], b, 9, MSG_DONTWAIT)); int n = 0; nb(s[0], 1); while (send(s[0], "m", 1, 0) == 1) n++; SAY("fits %d %s\n", n, ename(errno)); events("full", s[0]);
    shutdown(s[0], SHUT_WR); events("peer shut", s[1]); pipes = 0; R("write shut", write(s[0], b, 1)); SAY("signals %d\n", pipes); while (recv(s[1], b, 9, MSG_DONTWAIT) > 0); R("end", recv(s[1], b, 9, MSG_DONTWAIT)); R("end", read(s[1], b, 9)); close(s[0]); events("closed", s[1]); R("send", send(s[1], b, 1, 0)); pair(SOCK_SEQPACKET, s); send(s[0], "m", 1, 0); close(s[1]); R("reset", recv(s[0], b, 1, 0)); R("then", recv(s[0], b, 1, 0)); R("send", send(s[0], b, 1, 0)); int u = sock(SOCK_SEQPACKET); R("unconnected", send(u, b, 1, 0)); R("unconnected", recv(u, b, 1, 0)); events("unconnected", u);
    struct sockaddr_un a; socklen_t l = abst(&a, "sq"); int q = sock(SOCK_SEQPACKET); bind(q, (void *)&a, l); listen(q, 1); R("connect", connect(u, (void *)&a, l)); int k = accept(q, 0, 0); R("send with name", sendto(u, "x", 1, 0, (void *)&a, l)); take("named", k, 9, 0, 0, 0, 0); int st = sock(SOCK_STREAM); R("stream to seqpacket", connect(st, (void *)&a, l));
}
static int count_fds(void) { int n = 0; for (int i = 0; i < 1024; i++) n += fcntl(i, F_GETFD) >= 0; return n; }
static void passing(void) {
    int s[2], p[2], got[4] = { -1, -1, -1, -1 }, many[254]; char b[100]; struct ucred u = { getpid(), getuid(), getgid() };
    pipe(p); pair(SOCK_STREAM, s); R("send a pipe", send_fds(s[0], "x", 1, p, 2, 0, 0)); take("got", s[1], 10, 100, MSG_CMSG_CLOEXEC, got, 2); R("works", write(got[1], "hi", 2)); R("works", read(p[0], b, 9)); close(got[0]); close(got[1]);
    R("closed fd", send_fds(s[0], "x", 1, (int[]){ 99 }, 1, 0, 0)); R("fd -1", send_fds(s[0], "x", 1, (int[]){ -1 }, 1, 0, 0)); for (int i = 0; i < 254; i++) many[i] = p[0]; R("254", send_fds(s[0], "x", 1, many, 254, 0, 0)); R("253", send_fds(s[0], "x", 1, many, 253, 0, 0)); take("253", s[1], 10, 1500, 0, 0, 0); R("none", send_fds(s[0], "n", 1, many, 0, 0, 0)); R("no bytes", send_fds(s[0], "", 0, p, 1, 0, 0)); R("read", read(s[1], b, 10));
    int n = count_fds(); send_fds(s[0], "x", 1, p, 2, 0, 0); take("no room", s[1], 10, 0, 0, 0, 0); send_fds(s[0], "x", 1, p, 2, 0, 0); take("room for one", s[1], 10, CMSG_LEN(4), 0, 0, 0); send_fds(s[0], "x", 1, p, 2, 0, 0); take("room for a header", s[1], 10, CMSG_LEN(0), 0, 0, 0); send_fds(s[0], "x", 1, p, 2, 0, 0); R("plain read", read(s[1], b, 9)); SAY("kept %d\n", count_fds() - n);
    write(s[0], "before", 6); send_fds(s[0], "with", 4, p, 1, 0, 0); write(s[0], "after", 5); take("one", s[1], 100, 100, 0, 0, 0); take("two", s[1], 100, 100, 0, 0, 0); take("three", s[1], 100, 100, MSG_DONTWAIT, 0, 0); send_fds(s[0], "with", 4, p, 1, 0, 0); take("peek", s[1], 100, 100, MSG_PEEK, 0, 0); take("in part", s[1], 2, 100, 0, 0, 0); take("rest", s[1], 9, 100, MSG_DONTWAIT, 0, 0);
    R("unasked creds", send_fds(s[0], "c", 1, 0, 0, &u, 0)); take("not wanted", s[1], 9, 100, 0, 0, 0); setopt(s[1], SO_PASSCRED, 1); write(s[0], "c", 1); take("wanted", s[1], 9, 100, 0, 0, 0); take("no room", (write(s[0], "c", 1), s[1]), 9, 0, 0, 0, 0); take("small room", (write(s[0], "c", 1), s[1]), 9, 20, 0, 0, 0); send_fds(s[0], "both", 4, p, 1, &u, 0); take("both", s[1], 9, 100, 0, 0, 0);
    u.pid = 1; R("pid 1", send_fds(s[0], "c", 1, 0, 0, &u, 0)); take("pid 1", s[1], 9, 100, 0, 0, 0); u.pid = 99999; R("no pid", send_fds(s[0], "c", 1, 0, 0, &u, 0)); u.pid = getpid(); u.uid = 5; R("uid 5", send_fds(s[0], "c", 1, 0, 0, &u, 0)); take("uid 5", s[1], 9, 100, 0, 0, 0); write(s[0], "a", 1); u.uid = 0; send_fds(s[0], "b", 1, 0, 0, &u, 0); u.uid = 6; send_fds(s[0], "c", 1, 0, 0, &u, 0); take("same", s[1], 9, 100, 0, 0, 0); take("other", s[1], 9, 100, 0, 0, 0);
    if (!fork()) { setgid(1000); setuid(1000); u = (struct ucred){ getpid(), 1000, 1000 }; R("own", send_fds(s[0], "c", 1, 0, 0, &u, 0)); u.uid = 0; R("not own uid", send_fds(s[0], "c", 1, 0, 0, &u, 0)); u.uid = 1000; u.gid = 0; R("not own gid", send_fds(s[0], "c", 1, 0, 0, &u, 0)); u.gid = 1000; u.pid = getppid(); R("not own pid", send_fds(s[0], "c", 1, 0, 0, &u, 0)); take("own", s[1], 9, 100, 0, 0, 0); struct rlimit rl = { 20, 20 }; setrlimit(RLIMIT_NOFILE, &rl); n = 0; int q[2]; pair(SOCK_DGRAM, q); while (send_fds(q[0], "x", 1, p, 2, 0, MSG_DONTWAIT) == 1) n++; SAY("in flight %d %s\n", n, ename(errno)); _exit(0); } wait(0);
    setopt(s[1], SO_PASSCRED, 0); struct iovec v = { b, 1 }; char c[64]; memset(c, 0, sizeof c); struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = 16 }; struct cmsghdr *h = (void *)c; h->cmsg_len = 15; h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; R("len 15", sendmsg(s[0], &m, 0)); h->cmsg_len = 17; R("len 17 of 16", sendmsg(s[0], &m, 0)); h->cmsg_len = 16; R("len 16", sendmsg(s[0], &m, 0)); m.msg_controllen = 15; R("15 bytes", sendmsg(s[0], &m, 0)); m.msg_controllen = 32; h->cmsg_len = 19; R("len 19", sendmsg(s[0], &m, 0)); h->cmsg_type = 99; R("type 99", sendmsg(s[0], &m, 0)); h->cmsg_level = 99; R("level 99", sendmsg(s[0], &m, 0)); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_CREDENTIALS; h->cmsg_len = 20; R("creds 20", sendmsg(s[0], &m, 0)); m.msg_controllen = 1 << 20; R("much control", sendmsg(s[0], &m, 0)); m.msg_control = (void *)8; m.msg_controllen = 20; R("control fault", sendmsg(s[0], &m, 0)); m.msg_control = 0; m.msg_iovlen = 1025; R("iov 1025", sendmsg(s[0], &m, 0)); m.msg_iovlen = 1; m.msg_name = c; m.msg_namelen = -1; R("namelen -1", sendmsg(s[0], &m, 0)); m.msg_namelen = 1000; R("namelen 1000", sendmsg(s[0], &m, 0)); R("recv namelen -1", (m.msg_namelen = -1, recvmsg(s[1], &m, MSG_DONTWAIT)));
    while (recv(s[1], b, 100, MSG_DONTWAIT) > 0);
    // What only messages hold goes away with the sockets: the pipe's reader sees the end.
    int w[2], x[2], y[2]; pipe(w); pair(SOCK_STREAM, x); send_fds(x[0], "w", 1, &w[1], 1, 0, 0); close(w[1]); nb(w[0], 1); R("held by a message", read(w[0], b, 1)); close(x[1]); R("released with the socket", read(w[0], b, 1)); close(x[0]); close(w[0]);
    pipe(w); nb(w[0], 1); pair(SOCK_DGRAM, x); send_fds(x[0], "w", 1, &w[1], 1, 0, 0); send_fds(x[0], "s", 1, &x[1], 1, 0, 0); close(w[1]); close(x[1]); R("held by a circle", read(w[0], b, 1)); close(x[0]);
    pair(SOCK_STREAM, x); pair(SOCK_STREAM, y); send_fds(x[0], "y", 1, &y[1], 1, 0, 0); send_fds(y[0], "x", 1, &x[1], 1, 0, 0); send_fds(y[0], "w", 1, &w[1], 0, 0, 0); close(x[1]); close(y[1]); close(x[0]); close(y[0]); for (int i = 0; i < 50 && (n = read(w[0], b, 1)) < 0; i++) { usleep(20000); int z[2]; pair(SOCK_STREAM, z); close(z[0]); close(z[1]); } R("circles are collected", n);
    // A chain: each message holds the next socket.
    pipe(w); nb(w[0], 1); int held = w[1]; for (int i = 0; i < 200; i++) { pair(SOCK_DGRAM, x); send_fds(x[0], "c", 1, &held, 1, 0, 0); close(held); close(x[0]); held = x[1]; } R("a long chain", read(w[0], b, 1)); close(held); usleep(100000); R("goes at once", read(w[0], b, 1));
}
static void proc(void) {
    struct sockaddr_un a; socklen_t l = abst(&a, "shown"); int s = sock(SOCK_STREAM); bind(s, (void *)&a, l); listen(s, 3); char line[300]; FILE *f = fopen("/proc/net/unix", "r"); struct stat st; fstat(s, &st); fgets(line, sizeof line, f); SAY("%s", line);
    while (fgets(line, sizeof line, f)) if (strstr(line, "@shown")) { unsigned long num, ino; unsigned ref, pr, fl, ty, stt; char nm[100]; int k = sscanf(line, "%lx: %X %X %X %X %X %lu %s", &num, &ref, &pr, &fl, &ty, &stt, &ino, nm); SAY("%d fields: ref %u %u %x %u %u ino %d %s\n", k, ref, pr, fl, ty, stt, ino == st.st_ino, nm); }
    fclose(f); char *k[] = { "unix/max_dgram_qlen", "core/rmem_default", "core/rmem_max", "core/wmem_default", "core/wmem_max", "core/somaxconn", "core/optmem_max" };
    for (int i = 0; i < 7; i++) { char p[80]; sprintf(p, "/proc/sys/net/%s", k[i]); int fd = open(p, O_RDWR), n = read(fd, line, 100); SAY("%s: %.*s", k[i], n, line); R("write x", pwrite(fd, "x", 1, 0)); R("write 1", pwrite(fd, "1", 1, 0)); R("write back", pwrite(fd, line, n, 0)); close(fd); }
    l = readlink("/proc/net", line, 99); SAY("%.*s\n", (int)l, line);
}
static void netlink(void) {
    struct sockaddr_nl n = { AF_NETLINK, 0, 0, 1 }, m; socklen_t l = sizeof m; char b[4096];
    OK("type stream", socket(AF_NETLINK, SOCK_STREAM, 15)); OK("protocol 99", socket(AF_NETLINK, SOCK_RAW, 99)); OK("protocol -1", socket(AF_NETLINK, SOCK_RAW, -1)); int s = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT), t = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT);
    SAY("type %ld %ld protocol %ld domain %ld\n", opt(s, SO_TYPE), opt(t, SO_TYPE), opt(s, SO_PROTOCOL), opt(s, SO_DOMAIN)); R("short", bind(s, (void *)&n, 11)); R("bind", bind(s, (void *)&n, sizeof n)); getsockname(s, (void *)&m, &l); SAY("len %d pid me %d groups %x\n", (int)l, m.nl_pid == (unsigned)getpid(), m.nl_groups); n.nl_groups = 2; R("other groups", bind(s, (void *)&n, sizeof n)); n.nl_pid = 5; R("other pid", bind(s, (void *)&n, sizeof n)); n.nl_pid = getpid(); R("taken", bind(t, (void *)&n, sizeof n)); n.nl_pid = 0; n.nl_groups = 3; R("auto", bind(t, (void *)&n, sizeof n)); getsockname(t, (void *)&m, &l); SAY("negative %d\n", (int)m.nl_pid < 0); n.nl_groups = 1; bind(s, (void *)&n, sizeof n);
    events("empty", s); R("none", recv(s, b, 9, 0)); R("listen", listen(s, 1)); R("accept", accept(s, 0, 0)); R("shutdown", shutdown(s, 2)); R("pair", socketpair(AF_NETLINK, SOCK_RAW, 15, (int *)b)); R("send nothing", send(s, b, 0, 0)); R("to kernel", send(s, "x", 1, 0)); R("oob", send(s, b, 1, MSG_OOB)); n.nl_pid = 77777; n.nl_groups = 0; R("nobody", sendto(s, b, 1, 0, (void *)&n, sizeof n));
    setopt(s, SO_PASSCRED, 1); n.nl_pid = 0; n.nl_groups = 1; R("to group 1", sendto(t, "group", 5, 0, (void *)&n, sizeof n)); { struct iovec v = { b, 3 }; char c[100]; struct msghdr h = { .msg_name = &m, .msg_namelen = sizeof m, .msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c }; R("received", recvmsg(s, &h, 0)); SAY("flags %x namelen %d groups %x negative %d control %ld\n", h.msg_flags, (int)h.msg_namelen, m.nl_groups, (int)m.nl_pid < 0, (long)h.msg_controllen); }
    R("own not", recv(t, b, 9, MSG_DONTWAIT)); int g = 4, o; R("join 4", setsockopt(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &g, 4)); g = 99; R("join 99", setsockopt(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &g, 4)); l = 4; R("list", getsockopt(s, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, &o, &l)); SAY("%x len %d\n", o, (int)l); R("opt 77", setsockopt(s, SOL_NETLINK, 77, &g, 4)); R("level 6", setsockopt(s, 6, 77, &g, 4));
    if (!fork()) { setuid(1000); int q = socket(AF_NETLINK, SOCK_RAW, 15); n.nl_pid = 0; n.nl_groups = 1; R("bind user", bind(q, (void *)&n, sizeof n)); R("user to group", sendto(q, "x", 1, 0, (void *)&n, sizeof n)); n.nl_groups = 0; R("user to kernel", sendto(q, "x", 1, 0, (void *)&n, sizeof n)); R("user connect", connect(q, (void *)&n, sizeof n)); n.nl_groups = 1; R("user connect group", connect(q, (void *)&n, sizeof n)); _exit(0); } wait(0);
    name("peer", s, 1); setopt(s, SO_RCVBUF, 1); int k = 0; while (k < 100 && !(poll(&(struct pollfd){ s, POLLERR, 0 }, 1, 0) > 0 && (opt(s, SO_ERROR) == ENOBUFS))) { sendto(t, b, 500, 0, (void *)&n, sizeof n); k++; } SAY("overrun %s\n", k < 100 ? "told" : "never"); R("ioctl", ioctl(s, FIONREAD, &o)); struct stat st; fstat(s, &st); SAY("mode %o\n", st.st_mode);
}
#define RUN(x) do { SAY("== %s\n", #x); pid_t p_ = fork(); if (!p_) { x(); _exit(0); } int s_; waitpid(p_, &s_, 0); if (s_) SAY("!! status %x\n", s_); } while (0)
int main(void) {
    struct sigaction sa = { .sa_handler = on_pipe, .sa_flags = SA_RESTART }; sigaction(SIGPIPE, &sa, 0); setvbuf(stdout, 0, _IOLBF, 0);
    RUN(creating); RUN(options); RUN(naming); RUN(streams); RUN(peeking); RUN(datagrams); RUN(packets); RUN(passing); RUN(proc); RUN(netlink);
    return 0;
}
