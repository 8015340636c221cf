// A browser starts no worker for a page that was opened as a file: the search's script then runs in a hidden frame.
// Named like the script that Zensical would load from another host for this.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = (this.inside = frame.contentWindow)
      inside.postMessage = (data) => {
        const message = new MessageEvent("message", { data })
        this.dispatchEvent(message)
        this.onmessage?.(message)
      }
      const script = inside.document.createElement("script")
      this.loaded = new Promise((resolve) => (script.onload = resolve))
      script.src = new URL(url, document.baseURI)
      inside.document.body.append(script)
    }

    postMessage(data) {
      this.loaded.then(() => {
        const message = new MessageEvent("message", { data })
        this.inside.dispatchEvent(message)
      })
    }

    terminate() {
      this.inside.frameElement.remove()
    }
  }
}
