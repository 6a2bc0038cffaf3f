/*
 * Copyright (c) 2026 The kfcgi authors
 *
 * Permission to use, copy, modify, and distribute this software for any
 * purpose with or without fee is hereby granted, provided that the above
 * copyright notice and this permission notice appear in all copies.
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
 * WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
 * MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
 * ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
 * WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
 * ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
 * OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */

/*
 * Tail queues with the interface of queue(3), as far as kfcgi needs it.  An
 * element knows both its neighbours, and NULL is the end on either side: one
 * comparison more on insertion and removal than in the BSDs', but no casts
 * between heads and elements.
 */

#ifndef COMPAT_QUEUE_H
#define COMPAT_QUEUE_H

#define TAILQ_HEAD(name, type)						\
struct name {								\
	struct type	*tqh_first;					\
	struct type	*tqh_last;					\
}

#define TAILQ_ENTRY(type)						\
struct {								\
	struct type	*tqe_next;					\
	struct type	*tqe_prev;					\
}

#define TAILQ_FIRST(head)		((head)->tqh_first)
#define TAILQ_LAST(head, name)		((head)->tqh_last)
#define TAILQ_NEXT(elm, field)		((elm)->field.tqe_next)
#define TAILQ_EMPTY(head)		(TAILQ_FIRST(head) == NULL)

#define TAILQ_INIT(head) do {						\
	(head)->tqh_first = NULL;					\
	(head)->tqh_last = NULL;					\
} while (0)

#define TAILQ_INSERT_HEAD(head, elm, field) do {			\
	(elm)->field.tqe_prev = NULL;					\
	(elm)->field.tqe_next = (head)->tqh_first;			\
	if ((head)->tqh_first != NULL)					\
		(head)->tqh_first->field.tqe_prev = (elm);		\
	else								\
		(head)->tqh_last = (elm);				\
	(head)->tqh_first = (elm);					\
} while (0)

#define TAILQ_INSERT_TAIL(head, elm, field) do {			\
	(elm)->field.tqe_next = NULL;					\
	(elm)->field.tqe_prev = (head)->tqh_last;			\
	if ((head)->tqh_last != NULL)					\
		(head)->tqh_last->field.tqe_next = (elm);		\
	else								\
		(head)->tqh_first = (elm);				\
	(head)->tqh_last = (elm);					\
} while (0)

#define TAILQ_REMOVE(head, elm, field) do {				\
	if ((elm)->field.tqe_next != NULL)				\
		(elm)->field.tqe_next->field.tqe_prev =			\
		    (elm)->field.tqe_prev;				\
	else								\
		(head)->tqh_last = (elm)->field.tqe_prev;		\
	if ((elm)->field.tqe_prev != NULL)				\
		(elm)->field.tqe_prev->field.tqe_next =			\
		    (elm)->field.tqe_next;				\
	else								\
		(head)->tqh_first = (elm)->field.tqe_next;		\
} while (0)

#define TAILQ_FOREACH(var, head, field)					\
	for ((var) = TAILQ_FIRST(head);					\
	    (var) != NULL;						\
	    (var) = TAILQ_NEXT(var, field))

/* var may be removed, and freed, in the loop. */
#define TAILQ_FOREACH_SAFE(var, head, field, tmp)			\
	for ((var) = TAILQ_FIRST(head);					\
	    (var) != NULL && ((tmp) = TAILQ_NEXT(var, field), 1);	\
	    (var) = (tmp))

#endif /* COMPAT_QUEUE_H */
