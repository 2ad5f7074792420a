/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Limits. */
#ifndef BINRUSH_CONFIG_H
#define BINRUSH_CONFIG_H

#define SIP_PORT 5060
#define SIPS_PORT 5061

#define MAX_REC_LEV 100
#define MAX_URI_SIZE 1024
#define MAX_PATH_SIZE 255
#define MAX_BRANCH_PARAM_LEN 58

#define CRLF "\r\n"
#define CRLF_LEN (sizeof(CRLF) - 1)

#endif
