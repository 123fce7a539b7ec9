/**
 * The input items of the published API, which the rules were read for: `isReference` in stored-state.ts knows which of them the
 * API looks up, and remote-urls.ts which of them cite. A new one must be read in the same way before it stands here. A test
 * compares them with the types of `openai`.
 */
export const knownItemTypes: ReadonlySet<string> = new Set([
  ...['message', 'item_reference', 'reasoning', 'compaction', 'compaction_trigger', 'configuration_update', 'additional_tools'],
  ...['function_call', 'function_call_output', 'custom_tool_call', 'custom_tool_call_output', 'tool_search_call', 'tool_search_output'],
  ...['file_search_call', 'web_search_call', 'image_generation_call', 'code_interpreter_call', 'computer_call', 'computer_call_output'],
  ...['local_shell_call', 'local_shell_call_output', 'shell_call', 'shell_call_output', 'apply_patch_call', 'apply_patch_call_output'],
  ...['mcp_list_tools', 'mcp_call', 'mcp_approval_request', 'mcp_approval_response', 'program', 'program_output'],
]);
