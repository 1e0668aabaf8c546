/* SPDX-License-Identifier: MIT */
/*
 * Connections.  A worker is one thread with an epoll instance and its share of
 * the connections; a connection stays with its worker, so none of its state is
 * locked.
 *
 *     HEAD -> BODY -> WAIT -> SEND -> HEAD ...
 *                       \        \-> DRAIN -> closed, by FIN or RST
 *                        \-> STALL
 *
 * HEAD reads until a request's head is complete, BODY feeds the request body to
 * its sink, WAIT lasts as long as --latency and the delays of the fault rules,
 * SEND writes the answer.  step() goes on until the socket would block: epoll
 * reports edges, and there is no system call besides the I/O itself.
 *
 * A connection with much to do gives way after a few megabytes.  That, delays
 * and dripping are times in a list of the worker, sorted, mostly appended to.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/sockios.h>
#include <openssl/evp.h>

#include "tools/serve.h"

#define IN_BYTES     (16 * DZ_KIB)
#define TURN_BYTES   (4 * DZ_MIB) /* then another connection has its turn */
#define SCRATCH	     (256 * DZ_KIB)
#define DRIP_STEP_NS 5000000 /* how often a dripping body gets its next bytes */
#define DRAIN_MAX_NS 2000000000
#define NS_PER_MS    1000000

enum state { ST_HEAD, ST_BODY, ST_WAIT, ST_SEND, ST_DRAIN, ST_STALL };

/* What step() says to its caller. */
enum verdict {
	V_AGAIN,  /* the next state can go on at once */
	V_SOCKET, /* wait for the socket */
	V_TIMER,  /* wait for conn->due */
	V_CLOSE,
};

struct conn {
	struct serve_worker *worker;
	struct conn *next, *prev;	      /* all connections of the worker */
	struct conn *timer_next, *timer_prev; /* those that wait for a time */
	bool has_timer;
	uint64_t due;
	int fd;
	uint64_t number;
	enum state state;
	char *in;
	size_t in_len, in_cap;
	size_t head_bytes;  /* of `in`, the request that is being answered */
	uint64_t body_left; /* of the request, still to come */
	struct serve_call call;
	struct serve_buf out; /* 100 Continue, then the head of the answer */
	size_t out_sent;
	uint64_t body_bytes; /* of the answer, with what a rule adds or cuts */
	uint64_t body_sent;
	bool has_rst, has_early_end; /* how the answer ends, when a rule says so */
	uint64_t start_ns, send_ns;
};

struct serve_worker {
	struct serve *srv;
	pthread_t thread;
	int epoll_fd;
	int wake_fd;
	pthread_mutex_t lock; /* of `given` */
	struct conn *given;   /* new connections on their way to the thread */
	struct conn *conns;
	struct conn timers; /* list head; soonest first */
	char *scratch;
};

static const char zeros[4096];

/* ---- the list of times ---- */

static void timer_cancel(struct conn *c)
{
	if (!c->has_timer)
		return;
	c->timer_prev->timer_next = c->timer_next;
	c->timer_next->timer_prev = c->timer_prev;
	c->has_timer = false;
}

static void timer_set(struct conn *c, uint64_t due)
{
	struct conn *head = &c->worker->timers;
	struct conn *at = head->timer_prev;

	timer_cancel(c);
	while (at != head && at->due > due)
		at = at->timer_prev;
	c->due = due;
	c->timer_prev = at;
	c->timer_next = at->timer_next;
	at->timer_next->timer_prev = c;
	at->timer_next = c;
	c->has_timer = true;
}

/* ---- opening and closing ---- */

static struct conn *conn_new(struct serve_worker *w, int fd, uint64_t number)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->in = malloc(IN_BYTES);
	if (!c->in) {
		free(c);
		return NULL;
	}
	c->in_cap = IN_BYTES;
	c->worker = w;
	c->fd = fd;
	c->number = number;
	c->call = (struct serve_call){ .srv = w->srv, .tmp_fd = -1, .res = { .file_fd = -1 } };
	serve_fault_clear(&c->call.fault);
	return c;
}

static void conn_close(struct conn *c)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	timer_cancel(c);
	if (c->prev)
		c->prev->next = c->next;
	else
		c->worker->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	if (c->has_rst)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c->fd);
	serve_call_reset(&c->call);
	serve_buf_free(&c->call.res.head);
	serve_buf_free(&c->out);
	free(c->in);
	free(c);
}

/* ---- HEAD ---- */

static enum verdict answer_malformed(struct conn *c)
{
	c->call.req = (struct serve_req){ .method = (char *)"",
					  .path = (char *)"",
					  .raw_query = (char *)"" };
	serve_error(&c->call, "InvalidInput");
	c->in_len = c->head_bytes = 0;
	c->state = ST_WAIT;
	c->due = 0;
	return V_AGAIN;
}

static enum verdict begin_request(struct conn *c, size_t head_bytes)
{
	struct serve_call *call = &c->call;

	c->start_ns = serve_now_ns();
	c->head_bytes = head_bytes;
	serve_begin(call);
	c->body_left = call->req.body_bytes;
	c->out.len = c->out_sent = 0;
	if (call->req.is_chunked)
		call->req.keep_alive = false; /* where the next request begins is unknown */
	if (call->req.expects_continue && c->body_left > 0)
		serve_buf_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
	c->state = ST_BODY;
	return V_AGAIN;
}

static enum verdict read_head(struct conn *c)
{
	for (;;) {
		ssize_t n = 0;

		if (c->in_len > 0)
			n = serve_http_parse(&c->call.req, c->in, c->in_len);
		if (n < 0)
			return answer_malformed(c);
		if (n > 0)
			return begin_request(c, (size_t)n);
		if (c->in_len == c->in_cap) {
			char *in = realloc(c->in, c->in_cap * 2);

			if (!in)
				return V_CLOSE;
			c->in = in;
			c->in_cap *= 2;
		}
		n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
		if (n < 0 && errno == EAGAIN)
			return V_SOCKET;
		if (n <= 0)
			return V_CLOSE;
		c->in_len += (size_t)n;
	}
}

/* ---- BODY ---- */

static void sink_body(struct serve_call *call, const char *data, size_t n)
{
	if (call->md5)
		EVP_DigestUpdate(call->md5, data, n);
	if (call->sink == SERVE_SINK_MEMORY)
		serve_buf_add(&call->in, data, n);
	if (call->sink == SERVE_SINK_FILE && call->res.status == 0 &&
	    write(call->tmp_fd, data, n) != (ssize_t)n)
		serve_error_errno(call, errno ? -errno : -ENOSPC);
}

/* What came with the head in one packet; what is behind it stays for the next request. */
static void sink_early_body(struct conn *c)
{
	size_t have = c->in_len - c->head_bytes;
	size_t n = (size_t)dz_min_u64(have, c->body_left);

	if (n == 0)
		return;
	sink_body(&c->call, c->in + c->head_bytes, n);
	c->body_left -= n;
	memmove(c->in + c->head_bytes, c->in + c->head_bytes + n, have - n);
	c->in_len -= n;
}

static enum verdict send_continue(struct conn *c)
{
	while (c->out_sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent,
				 MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN ? V_SOCKET : V_CLOSE;
		c->out_sent += (size_t)n;
	}
	return V_AGAIN;
}

/* The operation runs here, before the delay, so that a delay keeps no lock. */
static enum verdict finish_request(struct conn *c)
{
	struct serve_fault *f = &c->call.fault;
	uint64_t ms = c->worker->srv->latency_ms + f->delay_ms;

	if (f->stall || f->close) {
		c->state = ST_STALL;
		return f->stall ? V_SOCKET : V_CLOSE;
	}
	serve_finish(&c->call);
	if (f->lost)
		return V_CLOSE;
	c->state = ST_WAIT;
	c->due = ms ? c->start_ns + ms * NS_PER_MS : 0;
	return V_AGAIN;
}

static enum verdict read_body(struct conn *c)
{
	enum verdict v = send_continue(c);
	uint64_t done = 0;

	if (v != V_AGAIN)
		return v;
	sink_early_body(c);
	while (c->body_left > 0) {
		size_t want = (size_t)dz_min_u64(c->body_left, SCRATCH);
		ssize_t n = recv(c->fd, c->worker->scratch, want, 0);

		if (n < 0 && errno == EAGAIN)
			return V_SOCKET;
		if (n <= 0)
			return V_CLOSE;
		sink_body(&c->call, c->worker->scratch, (size_t)n);
		c->body_left -= (uint64_t)n;
		done += (uint64_t)n;
		if (done > TURN_BYTES && c->body_left > 0) {
			c->due = serve_now_ns();
			return V_TIMER;
		}
	}
	return finish_request(c);
}

/* ---- WAIT ---- */

static uint64_t answer_bytes(const struct serve_res *res)
{
	return res->file_fd >= 0 ? res->file_len : res->body.len;
}

/* Cuts or lengthens the body as the rules say; returns the Content-Length. */
static uint64_t bend_body(struct conn *c)
{
	struct serve_fault *f = &c->call.fault;
	uint64_t length = answer_bytes(&c->call.res);

	if (f->truncate_to >= 0)
		length = dz_min_u64(length, (uint64_t)f->truncate_to);
	c->body_bytes = length + f->extra;
	if (f->short_at >= 0 || f->reset_at >= 0) {
		int64_t at = f->reset_at >= 0 ? f->reset_at : f->short_at;

		/* Nothing to cut: the connection ends all the same. */
		c->body_bytes = dz_min_u64(c->body_bytes, (uint64_t)at);
		c->has_rst = f->reset_at >= 0;
		c->has_early_end = true;
	}
	return length;
}

static enum verdict prepare_answer(struct conn *c)
{
	struct serve_call *call = &c->call;
	uint64_t length = bend_body(c);

	if (strcmp(call->req.method, "HEAD") == 0) {
		length = call->res.head_len;
		c->body_bytes = 0;
	}
	c->out.len = c->out_sent = 0;
	c->body_sent = 0;
	serve_head(call, length, &c->out);
	c->send_ns = serve_now_ns();
	c->state = ST_SEND;
	return V_AGAIN;
}

static enum verdict wait_for_due(struct conn *c)
{
	return c->due > serve_now_ns() ? V_TIMER : prepare_answer(c);
}

/* ---- SEND ---- */

/* How much of the body may go now; 0 with conn->due set when it is too early. */
static uint64_t allowance(struct conn *c)
{
	uint64_t left = c->body_bytes - c->body_sent;
	uint64_t rate = c->call.fault.drip;
	uint64_t now, earned;

	if (rate == 0 || left == 0)
		return left;
	now = serve_now_ns();
	earned = (uint64_t)((double)(now - c->send_ns + DRIP_STEP_NS) * (double)rate / 1e9);
	if (earned <= c->body_sent) {
		c->due = now + dz_max_u64(DRIP_STEP_NS, 1000000000 / rate);
		return 0;
	}
	return dz_min_u64(left, earned - c->body_sent);
}

/* Head and a body in memory leave together. */
static ssize_t send_memory(struct conn *c, uint64_t allowed)
{
	struct serve_res *res = &c->call.res;
	size_t have = res->file_fd >= 0 || c->body_sent > res->body.len
			      ? 0
			      : res->body.len - (size_t)c->body_sent;
	struct iovec iov[2] = {
		{ c->out.data + c->out_sent, c->out.len - c->out_sent },
		{ have ? res->body.data + c->body_sent : NULL, (size_t)dz_min_u64(have, allowed) },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	bool has_more = c->body_bytes - c->body_sent > iov[1].iov_len;
	ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | (has_more ? MSG_MORE : 0));

	if (n > 0) {
		size_t head = dz_min_u64((uint64_t)n, iov[0].iov_len);

		c->out_sent += head;
		c->body_sent += (uint64_t)n - head;
	}
	return n;
}

static ssize_t send_file(struct conn *c, uint64_t allowed)
{
	struct serve_res *res = &c->call.res;
	off_t at = (off_t)(res->file_off + c->body_sent);
	size_t n = (size_t)dz_min_u64(allowed, res->file_len - c->body_sent);
	ssize_t sent = sendfile(c->fd, res->file_fd, &at, dz_min_u64(n, DZ_MIB));

	if (sent > 0)
		c->body_sent += (uint64_t)sent;
	return sent;
}

/* Bytes beyond the end, for the rule that wants them. */
static ssize_t send_extra(struct conn *c, uint64_t allowed)
{
	ssize_t n = send(c->fd, zeros, dz_min_u64(allowed, sizeof(zeros)), MSG_NOSIGNAL);

	if (n > 0)
		c->body_sent += (uint64_t)n;
	return n;
}

static ssize_t send_some(struct conn *c, uint64_t allowed)
{
	struct serve_res *res = &c->call.res;

	if (c->out_sent < c->out.len || (res->file_fd < 0 && c->body_sent < res->body.len))
		return send_memory(c, allowed);
	if (res->file_fd >= 0 && c->body_sent < res->file_len)
		return send_file(c, allowed);
	return send_extra(c, allowed);
}

/* The answer is out: a log line, then the next request, or the end that a rule wants. */
static enum verdict end_answer(struct conn *c)
{
	bool keep_alive = c->call.req.keep_alive;

	serve_log(&c->call, c->number, c->body_sent, c->start_ns);
	serve_call_reset(&c->call);
	if (c->has_rst || c->has_early_end || !keep_alive) {
		c->state = ST_DRAIN;
		c->send_ns = serve_now_ns();
		if (!c->has_rst)
			shutdown(c->fd, SHUT_WR);
		return V_AGAIN;
	}
	memmove(c->in, c->in + c->head_bytes, c->in_len - c->head_bytes);
	c->in_len -= c->head_bytes;
	c->head_bytes = 0;
	c->state = ST_HEAD;
	return V_AGAIN;
}

static enum verdict send_answer(struct conn *c)
{
	uint64_t begin = c->body_sent;

	while (c->out_sent < c->out.len || c->body_sent < c->body_bytes) {
		uint64_t allowed = allowance(c);
		ssize_t n;

		if (allowed == 0 && c->out_sent == c->out.len)
			return V_TIMER;
		n = send_some(c, allowed);
		if (n < 0 && errno == EAGAIN)
			return V_SOCKET;
		/* 0: the file became shorter under our hands. */
		if (n <= 0)
			return V_CLOSE;
		if (c->body_sent - begin > TURN_BYTES) {
			c->due = serve_now_ns();
			return V_TIMER;
		}
	}
	return end_answer(c);
}

/* Does the client still have to take something, or to give something? */
static bool is_drained(struct conn *c)
{
	int unsent = 0;
	ssize_t n;

	if (c->has_rst)
		return ioctl(c->fd, SIOCOUTQ, &unsent) < 0 || unsent == 0;
	do
		n = recv(c->fd, c->worker->scratch, SCRATCH, 0);
	while (n > 0);
	return n == 0 || errno != EAGAIN;
}

/*
 * A RST overtakes what the socket still holds, and bytes that nobody has read
 * turn a close into a RST: the end waits for the client, for a time.
 */
static enum verdict drain(struct conn *c)
{
	uint64_t now = serve_now_ns();

	if (now - c->send_ns > DRAIN_MAX_NS || is_drained(c))
		return V_CLOSE;
	c->due = now + NS_PER_MS;
	return V_TIMER;
}

/* ---- the worker ---- */

static enum verdict step(struct conn *c)
{
	switch (c->state) {
	case ST_HEAD:
		return read_head(c);
	case ST_BODY:
		return read_body(c);
	case ST_WAIT:
		return wait_for_due(c);
	case ST_SEND:
		return send_answer(c);
	case ST_DRAIN:
		return drain(c);
	case ST_STALL:
		return V_SOCKET;
	}
	return V_CLOSE;
}

/* An answer that was begun and not ended is logged with what was sent of it. */
static void close_unfinished(struct conn *c)
{
	if (c->call.req.method && c->state != ST_HEAD && c->state != ST_DRAIN)
		serve_log(&c->call, c->number, c->state == ST_SEND ? c->body_sent : 0, c->start_ns);
	conn_close(c);
}

static void run(struct conn *c)
{
	enum verdict v;

	timer_cancel(c);
	do
		v = step(c);
	while (v == V_AGAIN);
	if (v == V_TIMER)
		timer_set(c, c->due);
	if (v == V_CLOSE)
		close_unfinished(c);
}

static void take_given(struct serve_worker *w)
{
	struct conn *c, *next;
	uint64_t count;
	ssize_t ignored = read(w->wake_fd, &count, sizeof(count));

	(void)ignored;
	pthread_mutex_lock(&w->lock);
	c = w->given;
	w->given = NULL;
	pthread_mutex_unlock(&w->lock);
	for (; c; c = next) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
					  .data.ptr = c };

		next = c->next;
		c->next = w->conns;
		c->prev = NULL;
		if (w->conns)
			w->conns->prev = c;
		w->conns = c;
		if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
			conn_close(c);
	}
}

/* A client that hangs up ends a wait; otherwise the socket matters only to who waits for it. */
static void on_event(struct conn *c, uint32_t events)
{
	if (c->state == ST_STALL || (c->state == ST_WAIT && c->has_timer)) {
		if (events & (EPOLLHUP | EPOLLERR) || (c->state == ST_STALL && events & EPOLLRDHUP))
			close_unfinished(c);
		return;
	}
	if (!c->has_timer)
		run(c);
}

static void run_timers(struct serve_worker *w)
{
	uint64_t now = serve_now_ns();
	struct conn *last = w->timers.timer_prev; /* those that come meanwhile have to wait */

	while (w->timers.timer_next != &w->timers && w->timers.timer_next->due <= now) {
		struct conn *c = w->timers.timer_next;
		bool is_last = c == last;

		run(c);
		if (is_last)
			break;
	}
}

/* Finer than the milliseconds of epoll_wait, where the kernel has it (5.11). */
static int wait_events(struct serve_worker *w, struct epoll_event *events, int max)
{
	struct conn *soonest = w->timers.timer_next;
	struct timespec ts = { 0 };
	uint64_t now, left;
	long n;

	if (soonest == &w->timers)
		return epoll_wait(w->epoll_fd, events, max, -1);
	now = serve_now_ns();
	left = soonest->due > now ? soonest->due - now : 0;
	ts.tv_sec = (time_t)(left / 1000000000);
	ts.tv_nsec = (long)(left % 1000000000);
	n = syscall(SYS_epoll_pwait2, w->epoll_fd, events, max, &ts, NULL, 0);
	if (n < 0 && errno == ENOSYS)
		n = epoll_wait(w->epoll_fd, events, max, (int)dz_div_up(left, NS_PER_MS));
	return (int)n;
}

static void *work(void *arg)
{
	struct serve_worker *w = arg;
	struct epoll_event events[64];

	while (!w->srv->stopping) {
		int n = wait_events(w, events, DZ_ARRAY_LEN(events));

		/* New connections last: adding one must not meet its own events. */
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				on_event(events[i].data.ptr, events[i].events);
		}
		run_timers(w);
		for (int i = 0; i < n; i++) {
			if (!events[i].data.ptr)
				take_given(w);
		}
	}
	return NULL;
}

struct serve_worker *serve_worker_start(struct serve *srv)
{
	struct serve_worker *w = calloc(1, sizeof(*w));
	struct epoll_event ev = { .events = EPOLLIN };

	if (!w)
		return NULL;
	w->srv = srv;
	w->timers.timer_next = w->timers.timer_prev = &w->timers;
	pthread_mutex_init(&w->lock, NULL);
	w->scratch = malloc(SCRATCH);
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!w->scratch || w->epoll_fd < 0 || w->wake_fd < 0 ||
	    epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &ev) < 0 ||
	    pthread_create(&w->thread, NULL, work, w) != 0)
		return NULL; /* the program ends: nothing to give back */
	return w;
}

static void wake(struct serve_worker *w)
{
	uint64_t one = 1;
	ssize_t ignored = write(w->wake_fd, &one, sizeof(one));

	(void)ignored;
}

void serve_worker_give(struct serve_worker *w, int fd, uint64_t number)
{
	struct conn *c = conn_new(w, fd, number);
	int on = 1;

	if (!c) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	pthread_mutex_lock(&w->lock);
	c->next = w->given;
	w->given = c;
	pthread_mutex_unlock(&w->lock);
	wake(w);
}

void serve_worker_stop(struct serve_worker *w)
{
	wake(w);
	pthread_join(w->thread, NULL);
	take_given(w);
	while (w->conns)
		close_unfinished(w->conns);
	close(w->epoll_fd);
	close(w->wake_fd);
	pthread_mutex_destroy(&w->lock);
	free(w->scratch);
	free(w);
}
