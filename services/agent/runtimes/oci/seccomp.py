"""The system calls a container may make: what Docker's default profile allows, for 64-bit processes.

Everything that is not named answers EPERM. Only the native architecture is compiled in: libseccomp's work
grows faster than the number of rules, and this is on the path of every container's start. A 32-bit binary
in an image therefore ends with SIGSYS; `OciSettings.seccomp = False` lifts the filter for a node.
The names are facts of https://docs.docker.com/engine/security/seccomp/ (as of Docker 25: no io_uring, no
AF_VSOCK).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

FILES = """
access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents
getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lgetxattr
link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat
name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev
pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile
setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink
unlinkat utime utimensat utimes vmsplice write writev
"""

PROCESSES = """
capget capset execve execveat exit exit_group fork get_robust_list getcpu getegid geteuid getgid
getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid
gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
pause pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease process_vm_readv process_vm_writev
ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_tid_address
setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit
setsid setuid sigaltstack signalfd signalfd4 sysinfo tgkill times tkill uname vfork wait4 waitid
"""

MEMORY = """
brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""

EVENTS_AND_TIME = """
adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1
epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_waitv getitimer getrandom
gettimeofday io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit nanosleep poll ppoll
pselect6 select setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
timerfd_create timerfd_gettime timerfd_settime
"""

SOCKETS_AND_IPC = """
accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg semctl
semget semop semtimedop sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair
"""

BY_MACHINE = {
    "x86_64": ("SCMP_ARCH_X86_64", "arch_prctl modify_ldt get_thread_area set_thread_area"),
    "aarch64": ("SCMP_ARCH_AARCH64", "sync_file_range2"),
    "riscv64": ("SCMP_ARCH_RISCV64", "riscv_flush_icache"),
}

BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
        "move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog "
        "umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday clock_settime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
AF_VSOCK = 40
ENOSYS = 38


def profile(capabilities: Iterable[str], machine: str | None = None) -> dict[str, Any] | None:
    """`linux.seccomp` of an OCI config for a process with these capabilities; None on an unknown machine."""
    return _profile(frozenset(capabilities), machine or platform.machine())


@lru_cache(maxsize=64)
def _profile(capabilities: frozenset[str], machine: str) -> dict[str, Any] | None:
    if machine not in BY_MACHINE:
        return None
    architecture, extra = BY_MACHINE[machine]
    names = set(" ".join((FILES, PROCESSES, MEMORY, EVENTS_AND_TIME, SOCKETS_AND_IPC, extra)).split())
    for capability in capabilities & BY_CAPABILITY.keys():
        names.update(BY_CAPABILITY[capability].split())
    rules = [
        {"names": sorted(names), "action": "SCMP_ACT_ALLOW"},
        _when("socket", 0, "SCMP_CMP_NE", AF_VSOCK),
        *(_when("personality", 0, "SCMP_CMP_EQ", value) for value in PERSONALITIES),
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(_when("clone", 0, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS))
        # ENOSYS makes libc fall back to clone, whose flags a filter can see.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": [architecture],
        "syscalls": rules,
    }


def _when(name: str, index: int, operator: str, value: int) -> dict[str, Any]:
    argument = {"index": index, "value": value, "op": operator}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
