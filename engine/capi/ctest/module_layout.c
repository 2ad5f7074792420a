/* What modules and the loader see must be the same bytes: the layouts of 1.11 on LP64. */
#include <stddef.h>

#include "sr_module.h"
#include "mod_fix.h"
#include "evi/evi_modules.h"

#define SIZE(_type, _size) _Static_assert(sizeof(_type) == (_size), "size of " #_type)
#define AT(_type, _member, _offset) _Static_assert(offsetof(_type, _member) == (_offset), #_type "." #_member)

SIZE(struct module_exports, 112);
AT(struct module_exports, version, 8);
AT(struct module_exports, compile_flags, 16);
AT(struct module_exports, dlflags, 24);
AT(struct module_exports, cmds, 32);
AT(struct module_exports, params, 40);
AT(struct module_exports, stats, 48);
AT(struct module_exports, mi_cmds, 56);
AT(struct module_exports, items, 64);
AT(struct module_exports, procs, 72);
AT(struct module_exports, init_f, 80);
AT(struct module_exports, response_f, 88);
AT(struct module_exports, destroy_f, 96);
AT(struct module_exports, init_child_f, 104);

SIZE(cmd_export_t, 48);
AT(cmd_export_t, function, 8);
AT(cmd_export_t, param_no, 16);
AT(cmd_export_t, fixup, 24);
AT(cmd_export_t, free_fixup, 32);
AT(cmd_export_t, flags, 40);

SIZE(param_export_t, 24);
AT(param_export_t, type, 8);
AT(param_export_t, param_pointer, 16);

SIZE(proc_export_t, 40);
AT(proc_export_t, function, 24);
AT(proc_export_t, no, 32);
AT(proc_export_t, flags, 36);

SIZE(stat_export_t, 24);
AT(stat_export_t, stat_pointer, 16);
SIZE(stat_val, 8);
SIZE(stat_var, 64);
AT(stat_var, name, 8);
AT(stat_var, flags, 24);
AT(stat_var, context, 32);
AT(stat_var, u, 40);
AT(stat_var, lnext, 56);

SIZE(pv_name_t, 32);
SIZE(pv_param_t, 64);
AT(pv_param_t, pvv, 48);
SIZE(pv_spec_t, 104);
AT(pv_spec_t, pvp, 24);
AT(pv_spec_t, trans, 96);
SIZE(pv_elem_t, 128);
AT(pv_elem_t, next, 120);
SIZE(struct mi_handler, 16);
SIZE(mi_export_t, 48);
AT(mi_export_t, cmd, 16);
AT(mi_export_t, flags, 24);
AT(mi_export_t, param, 32);
AT(mi_export_t, init_f, 40);
SIZE(struct mi_root, 104);
AT(struct mi_root, reason, 8);
AT(struct mi_root, node, 32);
SIZE(struct mi_node, 72);
AT(struct mi_node, flags, 32);
AT(struct mi_node, kids, 40);
AT(struct mi_node, attributes, 64);
SIZE(struct mi_attr, 40);

SIZE(pv_export_t, 72);
AT(pv_export_t, type, 16);
AT(pv_export_t, getf, 24);
AT(pv_export_t, parse_name, 40);
AT(pv_export_t, iparam, 64);

SIZE(evi_params_t, 24);
SIZE(evi_param_t, 48);
AT(evi_param_t, val, 8);
AT(evi_param_t, name, 24);
AT(evi_param_t, next, 40);

SIZE(gparam_t, 24);
AT(gparam_t, v, 8);

SIZE(struct msg_start, 64);
SIZE(struct sip_uri, 688);
AT(struct sip_uri, port_no, 96);
AT(struct sip_uri, type, 100);
AT(struct sip_uri, transport, 104);
AT(struct sip_uri, u_name, 360);
AT(struct sip_uri, u_params_no, 680);

SIZE(struct sip_msg, 2184);
AT(struct sip_msg, first_line, 8);
AT(struct sip_msg, via1, 72);
AT(struct sip_msg, parsed_flag, 104);
AT(struct sip_msg, h_via1, 112);
AT(struct sip_msg, min_expires, 432);
AT(struct sip_msg, sdp, 440);
AT(struct sip_msg, eoh, 456);
AT(struct sip_msg, rcv, 472);
AT(struct sip_msg, buf, 576);
AT(struct sip_msg, len, 584);
AT(struct sip_msg, new_uri, 592);
AT(struct sip_msg, parsed_uri, 632);
AT(struct sip_msg, parsed_orig_ruri, 1328);
AT(struct sip_msg, add_rm, 2016);
AT(struct sip_msg, add_to_branch_s, 2040);
AT(struct sip_msg, add_to_branch_len, 2100);
AT(struct sip_msg, flags, 2108);
AT(struct sip_msg, set_global_address, 2120);
AT(struct sip_msg, force_send_socket, 2152);
AT(struct sip_msg, msg_cb, 2176);

_Static_assert(STR_PARAM == 1 && INT_PARAM == 2 && USE_FUNC_PARAM == 0x80000000, "types of parameters");
_Static_assert(PARAM_TYPE_MASK(STR_PARAM | USE_FUNC_PARAM) == STR_PARAM, "types of parameters");
_Static_assert(PROC_MAIN == 0 && PROC_TIMER == -1 && PROC_MODULE == -2 && PROC_TCP_MAIN == -4 && PROC_BIN == -8, "ranks");
_Static_assert(REQUEST_ROUTE == 1 && ONREPLY_ROUTE == 4 && EVENT_ROUTE == 256, "routes");
_Static_assert(DEFAULT_DLFLAGS == 0, "flags of dlopen");
