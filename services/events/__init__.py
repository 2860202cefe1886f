"""Events: who is told of what happened, in EventBridge's form, over HTTP."""
