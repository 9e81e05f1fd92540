/* How the library tells its embedder what it does. It prints nothing by itself. */
#ifndef BLIXARD_LOG_H
#define BLIXARD_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

/* error: an operator must act. warning: will become one. info: a state changed. debug: the rest. */
enum { BLX_LOG_ERROR = 0, BLX_LOG_WARNING = 1, BLX_LOG_INFO = 2, BLX_LOG_DEBUG = 3 };

/* Receives one line of log.
 * @user       the embedder's pointer, unchanged
 * @level      BLX_LOG_*
 * @component  static string, the part that speaks ("consensus", "agent")
 * @message    one line without its end, at most 1023 bytes; valid during the call only
 * Thread: one of the library's, never the caller's: a node's, a client's, a member's, whatever blixard/completions.h
 * says of completions; so lines of a node and of its clients may come at once. It must not block and must not call the
 * library. Since 0.1. */
typedef void (*blx_log_fn)(void *user, int level, const char *component, const char *message);

#ifdef __cplusplus
}
#endif
#endif
