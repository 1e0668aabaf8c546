/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that travel between processes.  A marker is sent as it is; what
 * arrives is looked at.  Before one is sent, its description is kept alive for
 * the time that it is nobody's.
 */
#define DZ_IN_msg 1
#include <sys/socket.h>

#include "shim/hooks.h"
#include "shim/real.h"

/* Calls back with each descriptor that a message carries. */
static void rights_each(const struct msghdr *msg, void (*cb)(int fd))
{
	struct cmsghdr *c;
	size_t bytes;
	int *fds;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
		    c->cmsg_len < CMSG_LEN(0))
			continue;
		fds = (int *)(void *)CMSG_DATA(c);
		bytes = c->cmsg_len - CMSG_LEN(0);
		for (size_t i = 0; i < bytes / sizeof(int); i++)
			cb(fds[i]);
	}
}

static void keep(int fd)
{
	dz_fh fh = dz_fd_get(fd);

	if (fh)
		dz_fd_hand_over(fd, fh);
}

static bool may_carry(const struct msghdr *msg)
{
	return msg && msg->msg_control && msg->msg_controllen >= sizeof(struct cmsghdr);
}

DZ_DOOR(ssize_t, sendmsg, int fd, const struct msghdr *msg, int flags)
{
	if (may_carry(msg) && atomic_load_explicit(&dz_fd_limit, memory_order_relaxed) != 0)
		rights_each(msg, keep);
	return dz_ret(dz_block_3(SYS_sendmsg, fd, msg, flags));
}

DZ_DOOR(int, sendmmsg, int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	for (unsigned int i = 0; i < n && msgs && dz_fd_limit != 0; i++)
		if (may_carry(&msgs[i].msg_hdr))
			rights_each(&msgs[i].msg_hdr, keep);
	return (int)dz_ret(dz_block_4(SYS_sendmmsg, fd, msgs, n, flags));
}

DZ_DOOR(ssize_t, recvmsg, int fd, struct msghdr *msg, int flags)
{
	ssize_t r = dz_block_3(SYS_recvmsg, fd, msg, flags);

	if (r >= 0 && may_carry(msg) && dz_is_on())
		rights_each(msg, dz_fd_adopt);
	return dz_ret(r);
}

DZ_DOOR(int, recvmmsg, int fd, struct mmsghdr *msgs, unsigned int n, int flags,
	struct timespec *timeout)
{
	long r = dz_block_5(SYS_recvmmsg, fd, msgs, n, flags, timeout);

	for (long i = 0; i < r && dz_is_on(); i++)
		if (may_carry(&msgs[i].msg_hdr))
			rights_each(&msgs[i].msg_hdr, dz_fd_adopt);
	return (int)dz_ret(r);
}

DZ_DOOR(int, pidfd_getfd, int pidfd, int target, unsigned int flags)
{
	long r = dz_sys_3(SYS_pidfd_getfd, pidfd, target, flags);

	if (r >= 0 && dz_is_on())
		dz_fd_adopt((int)r);
	return (int)dz_ret(r);
}

#include "shim/aliases.h"
