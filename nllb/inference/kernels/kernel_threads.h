/* Distributes the items of a loop to threads without barriers.
 *
 * The caller publishes a loop as one word that contains its number, the number of items and the
 * next item. Idle threads and the caller claim items by incrementing this word, and the caller
 * continues when all items are done. It waits only for threads that claimed an item, but not for
 * threads that sleep or are not scheduled. OpenMP barriers, of which a decoding step would have
 * several hundred, wait for all threads and are therefore slow on a machine that also runs other
 * work. Idle threads spin for a short time, then yield, and finally sleep.
 */
#ifndef NLLB_KERNEL_THREADS_H
#define NLLB_KERNEL_THREADS_H

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void Task(void *context, int64_t item);

#define FIELD 20 /* bits of an item index: a loop has at most about a million items */
#define MOST_ITEMS ((1 << FIELD) - 1)
#define MOST_THREADS 1024 /* must equal MAX_THREADS in `library.py` */

static struct {
    _Alignas(64) _Atomic uint64_t ticket; /* loop number, items, next item */
    _Alignas(64) _Atomic int64_t done;
    _Alignas(64) _Atomic int32_t sleeping, wake;
    Task *task;
    void *context;
    uint64_t loop;
    int helpers;
} pool;

static pthread_mutex_t pool_owner = PTHREAD_MUTEX_INITIALIZER;
static __thread int thread_number; /* 0 is the caller */

/* Claim and run one item; return 0 if none is left. */
static int take_item(void) {
    uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    uint64_t next = ticket & MOST_ITEMS, items = ticket >> FIELD & MOST_ITEMS;
    if (next >= items) return 0;
    if (atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                              memory_order_relaxed)) {
        pool.task(pool.context, (int64_t)next); /* both are unchanged until this item is done */
        atomic_fetch_add_explicit(&pool.done, 1, memory_order_release);
    }
    return 1;
}

static void *help(void *number) {
    thread_number = (int)(intptr_t)number;
    sigset_t all; /* only the caller's thread handles signals */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (int idle = 0;;) {
        if (take_item()) {
            idle = 0;
        } else if (idle < 4000) { /* about a tenth of a millisecond */
            idle++;
            _mm_pause();
        } else if (idle < 4200) {
            idle++;
            sched_yield();
        } else {
            int32_t wake = atomic_load(&pool.wake);
            atomic_fetch_add(&pool.sleeping, 1);
            uint64_t ticket = atomic_load(&pool.ticket);
            if ((ticket & MOST_ITEMS) >= (ticket >> FIELD & MOST_ITEMS))
                syscall(SYS_futex, &pool.wake, FUTEX_WAIT_PRIVATE, wake, NULL, NULL, 0);
            atomic_fetch_sub(&pool.sleeping, 1);
            idle = 0;
        }
    }
    return NULL;
}

/* Reset the pool in a forked child, which has neither the helpers nor a running owner of its parent. */
static void forget_pool(void) {
    pthread_mutex_init(&pool_owner, NULL);
    pool.helpers = 0;
    atomic_store(&pool.ticket, 0);
    atomic_store(&pool.sleeping, 0);
}

static __attribute__((constructor)) void watch_forks(void) { pthread_atfork(NULL, NULL, forget_pool); }

/* Become the owner of the helpers; return 0 if another thread is the owner. */
static int own_pool(int64_t threads) {
    if (threads <= 1 || pthread_mutex_trylock(&pool_owner)) return 0;
    while (pool.helpers < threads - 1 && pool.helpers < MOST_THREADS - 1) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, (void *)(intptr_t)(pool.helpers + 1))) break;
        pthread_detach(thread);
        pool.helpers++;
    }
    return 1;
}

static void disown_pool(void) { pthread_mutex_unlock(&pool_owner); }

/* Run all items of a loop; only the owner of the pool distributes them to helpers. */
static void share(int owner, int64_t items, Task *task, void *context) {
    if (!owner || items <= 1 || items > MOST_ITEMS) {
        for (int64_t item = 0; item < items; item++) task(context, item);
        return;
    }
    pool.task = task;
    pool.context = context;
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    atomic_store(&pool.ticket, ++pool.loop << 2 * FIELD | (uint64_t)items << FIELD);
    if (atomic_load(&pool.sleeping)) {
        atomic_fetch_add(&pool.wake, 1);
        syscall(SYS_futex, &pool.wake, FUTEX_WAKE_PRIVATE, MOST_THREADS, NULL, NULL, 0);
    }
    while (take_item()) {
    }
    for (int spins = 0; atomic_load_explicit(&pool.done, memory_order_acquire) < items; spins++) {
        if (spins % 1000 == 999) sched_yield();
        else _mm_pause();
    }
}

#endif
