/* What this folder writes down in an instance's directory, so that whoever cleans up after a shim that died knows what
 * to take back: small text files whose first line is the host's boot, since another boot has other interfaces and
 * devices. Private to lib/host. Thread: any. */
#ifndef BLX__HOST_RECORD_H
#define BLX__HOST_RECORD_H

#include "base/rc.h"

enum { HOST_TEXT_MAX = 2048 /* bytes of a small file, with its NUL */ };

/* The whole of a file below @dir as text; a missing one is empty. Errors: INVALID (too long), IO, DENIED. */
blx__rc host_read_at(int dir, const char *name, char text[HOST_TEXT_MAX], blx_error *err) BLX__MUST;

/* Begin a record: @name must not be there. The descriptor is the caller's. */
blx__rc host_record_begin(int dir, const char *name, int *fd, blx_error *err) BLX__MUST;
/* The lines of a record that was made in this boot, "" for one of another boot or none; @text is what they lie in. */
blx__rc host_record_lines(int dir, const char *name, char text[HOST_TEXT_MAX], char **lines, blx_error *err) BLX__MUST;
blx__rc host_record_remove(int dir, const char *name, blx_error *err) BLX__MUST;

enum { HOST_BOOT_ID_MAX = 64 };
bool host_boot_id(char out[HOST_BOOT_ID_MAX]) BLX__MUST;

/* Write @text into a file that is there, as sysfs takes it: in one write. 0 or errno. */
int host_put(const char *path, const char *text);

#endif
