/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The first line of a message. */
#ifndef BINRUSH_PARSE_FLINE_H
#define BINRUSH_PARSE_FLINE_H

#include "../str.h"

#define SIP_INVALID 0
#define SIP_REQUEST 1
#define SIP_REPLY 2

struct msg_start {
	int type;
	int len;
	union {
		struct {
			str method;
			str uri;
			str version;
			int method_value;
		} request;
		struct {
			str version;
			str status;
			str reason;
			unsigned int statuscode;
		} reply;
	} u;
};

#endif
