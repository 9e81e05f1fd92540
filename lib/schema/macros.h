/* What a row of types.def, api.def and internal.def means to one inclusion of them.
 *
 * Define the rows you want (in terms of the parameters listed in the .def), include this file, include the tables, then
 * include schema/macros_end.h, which takes every row away again:
 *
 *   #define MSG(NAME, PROTO, DOC) struct blx_##NAME;
 *   #include "schema/macros.h"
 *   #include "schema/types.def"
 *   #include "schema/macros_end.h"
 *
 * Rows not defined before are empty. Write macro parameters in capitals: one named like a member would be replaced
 * inside it. No guard: this file is meant to be included many times. */
#ifndef ENUM
#define ENUM(NAME, PROTO, DOC)
#endif
#ifndef EV
#define EV(ENUM_NAME, NAME, LABEL, NUMBER, DOC)
#endif
#ifndef ENUM_END
#define ENUM_END(NAME)
#endif
#ifndef MSG
#define MSG(NAME, PROTO, DOC)
#endif
#ifndef F
#define F(ID, CARD, KIND, SUB, NAME, MIN, MAX, CAP, DEF, DOC)
#endif
#ifndef MSG_END
#define MSG_END(NAME)
#endif
#ifndef SERVICE
#define SERVICE(PROTO, DOC)
#endif
#ifndef RPC
#define RPC(NAME, PROTO, REQUEST, RESPONSE, MODE, ROUTE, DOC)
#endif
#ifndef SERVICE_END
#define SERVICE_END(PROTO)
#endif
