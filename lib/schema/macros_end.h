/* The end of an inclusion of the tables: see schema/macros.h. */
#undef ENUM
#undef EV
#undef ENUM_END
#undef MSG
#undef F
#undef MSG_END
#undef SERVICE
#undef RPC
#undef SERVICE_END
