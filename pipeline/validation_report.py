def render(result, normal):
    return ""
