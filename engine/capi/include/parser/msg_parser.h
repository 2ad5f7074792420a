/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The message that script functions are called with. */
#ifndef BINRUSH_MSG_PARSER_H
#define BINRUSH_MSG_PARSER_H

#include <strings.h>

#include "../str.h"
#include "../config.h"
#include "../ip_addr.h"
#include "parse_fline.h"

#define URI_MAX_U_PARAMS 10

typedef unsigned long long hdr_flags_t;
typedef unsigned int flag_t;

enum _uri_type { ERROR_URI_T = 0, SIP_URI_T, SIPS_URI_T, TEL_URI_T, TELS_URI_T };
typedef enum _uri_type uri_type;

struct sip_uri {
	str user;
	str passwd;
	str host;
	str port;
	str params;
	str headers;
	unsigned short port_no;
	unsigned short proto;
	uri_type type;
	str transport;
	str ttl;
	str user_param;
	str maddr;
	str method;
	str lr;
	str r2;
	str gr;
	str transport_val;
	str ttl_val;
	str user_param_val;
	str maddr_val;
	str method_val;
	str lr_val;
	str r2_val;
	str gr_val;
	str u_name[URI_MAX_U_PARAMS];
	str u_val[URI_MAX_U_PARAMS];
	unsigned short u_params_no;
};

struct via_body;
struct hdr_field;
struct sdp_info;
struct multi_body;
struct lump;
struct lump_rpl;
struct msg_callback;

/*
 * Stands for the BIN packet that a route runs for: `rcv` tells where it came from, `buf` and `len` are a copy of its bytes, behind which
 * stands a 0 that `len` does not count. Everything else is 0: there is no SIP message, and nothing that would parse one. Where no packet
 * came, as in a timer_route, `buf` is an empty text.
 *
 * A function may write to all of it. Those that the same run of the script calls afterwards see that, also of other modules; for the next
 * packet it is made anew, and memory that somebody hung there is not freed.
 */
struct sip_msg {
	unsigned int id;
	struct msg_start first_line;
	struct via_body *via1;
	struct via_body *via2;
	struct hdr_field *headers;
	struct hdr_field *last_header;
	hdr_flags_t parsed_flag;
	struct hdr_field *h_via1;
	struct hdr_field *h_via2;
	struct hdr_field *callid;
	struct hdr_field *to;
	struct hdr_field *cseq;
	struct hdr_field *from;
	struct hdr_field *contact;
	struct hdr_field *maxforwards;
	struct hdr_field *route;
	struct hdr_field *record_route;
	struct hdr_field *path;
	struct hdr_field *content_type;
	struct hdr_field *content_length;
	struct hdr_field *authorization;
	struct hdr_field *expires;
	struct hdr_field *proxy_auth;
	struct hdr_field *supported;
	struct hdr_field *proxy_require;
	struct hdr_field *unsupported;
	struct hdr_field *allow;
	struct hdr_field *event;
	struct hdr_field *accept;
	struct hdr_field *accept_language;
	struct hdr_field *organization;
	struct hdr_field *priority;
	struct hdr_field *subject;
	struct hdr_field *user_agent;
	struct hdr_field *content_disposition;
	struct hdr_field *accept_disposition;
	struct hdr_field *diversion;
	struct hdr_field *rpid;
	struct hdr_field *refer_to;
	struct hdr_field *session_expires;
	struct hdr_field *min_se;
	struct hdr_field *ppi;
	struct hdr_field *pai;
	struct hdr_field *privacy;
	struct hdr_field *call_info;
	struct hdr_field *www_authenticate;
	struct hdr_field *proxy_authenticate;
	struct hdr_field *min_expires;
	struct sdp_info *sdp;
	struct multi_body *multi;
	char *eoh;
	char *unparsed;
	struct receive_info rcv;
	char *buf;
	unsigned int len;
	str new_uri;
	str dst_uri;
	int parsed_uri_ok;
	struct sip_uri parsed_uri;
	int parsed_orig_ruri_ok;
	struct sip_uri parsed_orig_ruri;
	struct lump *add_rm;
	struct lump *body_lumps;
	struct lump_rpl *reply_lump;
	char add_to_branch_s[MAX_BRANCH_PARAM_LEN];
	int add_to_branch_len;
	unsigned int hash_index;
	flag_t flags;
	unsigned int msg_flags;
	str set_global_address;
	str set_global_port;
	struct socket_info *force_send_socket;
	str path_vec;
	struct msg_callback *msg_cb;
};

#endif
