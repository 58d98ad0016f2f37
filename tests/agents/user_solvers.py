"""Agents and solvers as a user might write them: some are accepted and some are refused."""

from inspect_ai.agent import Agent, AgentState, agent, react
from inspect_ai.model import ChatMessageUser, get_model
from inspect_ai.solver import Generate, Solver, TaskState, chain, generate, solver, use_tools
from inspect_ai.tool import Tool, bash, python, tool, web_search


@agent
def ordinary() -> Agent:
    return react(tools=[bash(timeout=20), python(timeout=20)])


@solver
def plain() -> Solver:
    return chain(use_tools(bash(timeout=20)), generate())


@agent
def searcher() -> Agent:
    return react(tools=[bash(), web_search("tavily")])


@agent
def roots() -> Agent:
    return react(tools=[bash(user="root")])


@tool(name="bash")
def not_inspects() -> Tool:
    async def execute(command: str) -> str:
        """Run a command where the harness runs.

        Args:
            command: The command.
        """
        return command

    return execute


@agent
def pretender() -> Agent:
    return react(tools=[not_inspects()])


@solver
def silent() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return state

    return solve


@agent
def latecomer() -> Agent:
    """Offer the model another tool from the second turn on."""

    async def execute(state: AgentState) -> AgentState:
        """Run the agent."""
        for tools in ([bash()], [bash(), web_search("tavily")]):
            state.output = await get_model().generate(state.messages, tools)
            state.messages.append(state.output.message)
            state.messages.append(ChatMessageUser(content="Go on."))
        return state

    return execute


@agent
def sidestepper() -> Agent:
    """Call a model that it creates itself, in addition to the given one."""

    async def execute(state: AgentState) -> AgentState:
        """Run the agent."""
        state.output = await get_model().generate(state.messages, [bash()])
        await get_model("redline/idler", memoize=False).generate("Hello.")
        return state

    return execute


@agent
def swallower() -> Agent:
    """Continue after every error."""

    async def execute(state: AgentState) -> AgentState:
        """Run the agent."""
        loop = react(tools=[bash(timeout=20)], submit=False)
        for _ in range(3):
            try:
                state = await loop(state)
            except Exception as error:
                state.messages.append(ChatMessageUser(content=str(error)))
        return state

    return execute
