/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events that a module raises. */
#ifndef BINRUSH_EVI_MODULES_H
#define BINRUSH_EVI_MODULES_H

#include "../str.h"
#include "evi.h"
#include "evi_params.h"

struct sip_msg;

/* The event's id, the same for a name that was published before; EVI_ERROR when there is no room or the name cannot be. */
event_id_t evi_publish_event(str name);

/* EVI_ERROR when nobody published it. */
event_id_t evi_get_id(str *name);

/* Whether anybody wants it: worth asking before parameters are put together. */
int evi_probe_event(event_id_t id);

/* 0, or -1. With EVI_FREE_LIST the parameters are freed in either case, unless there is no such event. */
int evi_raise_event(event_id_t id, evi_params_t *params);
int evi_raise_event_msg(struct sip_msg *msg, event_id_t id, evi_params_t *params);

#endif
